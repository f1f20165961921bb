"""How browsers are started, and what they say they are. Figures are MB of proportional memory a session."""

import platform
import sys
from typing import Any

#: Playwright's own lists (chromiumSwitches in its driver, 1.65). Chromium heeds only the last --disable-features and
#: --enable-features on its command line, so ours must say Playwright's too; a test compares them with a live process.
PLAYWRIGHT_OFF = [
    "AvoidUnnecessaryBeforeUnloadCheckSync",
    "DestroyProfileOnBrowserClose",
    "HttpsUpgrades",
    "HttpsFirstBalancedModeAutoEnable",
    "LensOverlay",
    "MediaRouter",
    "PaintHolding",
    "ThirdPartyStoragePartitioning",
    "AvoidCorsURLLoaderRestartOnRedirect",
    "TcpPortRandomizationWin",
    "OptimizationHints",
    "NetworkTimeServiceQuerying",
    "AimEnabled",
    "PreconnectToSearch",
    "msForceBrowserSignIn",
    "msEdgeUpdateLaunchServicesPreferredVersion",
]
PLAYWRIGHT_ON = ["CDPScreenshotNewSurface", "SkipListAccountsWithoutGaiaCookies"]
#: measured, MB of proportional memory a session, three open: omnibox pop-ups 43, spare renderer 8, network service 17
OFF = [*PLAYWRIGHT_OFF, "SpareRendererForSitePerProcess", "WebUIOmniboxPopup", "WebUIOmniboxAimPopup"]
ON = [*PLAYWRIGHT_ON, "NetworkServiceInProcess2"]

#: What wa-js advises to cut off. Done in the resolver and not by intercepting requests, which would slow every one of
#: them and is known to hang with fonts (puppeteer #6696). Images, fonts and media are not blocked: it saves no memory
#: (measured) and makes the page less stable (open-wa #638).
TELEMETRY = ("crashlogs.whatsapp.net", "dit.whatsapp.net")

FLAGS = (
    "--disable-gpu",
    "--disable-software-rasterizer",  # 12 MB
    "--js-flags=--optimize-for-size",  # 46 MB on a heavy page
    "--disable-blink-features=AutomationControlled",  # navigator.webdriver is false
    f"--disable-features={','.join(OFF)}",
    f"--enable-features={','.join(ON)}",
    f"--host-resolver-rules={', '.join(f'MAP {host} ~NOTFOUND' for host in TELEMETRY)}",
)
#: Behind a proxy nothing is looked up or sent past it. The proxy resolves names, so the hosts that are cut off have to
#: be kept from it (BYPASS), and all lookups here fail. WebRTC would tell a page the machine's own address by UDP.
#: Chromium heeds the last --host-resolver-rules: this one, not Playwright's (which has quotes in it and does nothing).
PROXIED = (
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
    "--force-webrtc-ip-handling-policy=disable_non_proxied_udp",
)
BYPASS = ",".join(TELEMETRY)


def user_agent(version: str) -> str:
    """Say what a windowed Chrome of this version says; WhatsApp's server refuses HeadlessChrome (wa-js #3501).

    The minor numbers are zero in every Chrome since 101 (user-agent reduction).
    """
    system = "Macintosh; Intel Mac OS X 10_15_7" if sys.platform == "darwin" else "X11; Linux x86_64"
    major = version.partition(".")[0]
    return f"Mozilla/5.0 ({system}) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/{major}.0.0.0 Safari/537.36"


def identity(agent: str, version: str) -> dict[str, Any]:
    """Make the argument of Emulation.setUserAgentOverride, so that client hints do not name HeadlessChrome either.

    The brands are those of a windowed Chromium; the first is its deliberate nonsense (GREASE).
    """
    brands = [("Not:A-Brand", "8", "8.0.0.0"), ("Chromium", version.partition(".")[0], version)]
    return {
        "userAgent": agent,
        "userAgentMetadata": {
            "brands": [{"brand": brand, "version": short} for brand, short, _ in brands],
            "fullVersionList": [{"brand": brand, "version": full} for brand, _, full in brands],
            "platform": "macOS" if sys.platform == "darwin" else "Linux",
            "platformVersion": "",
            "architecture": "arm" if platform.machine() in {"arm64", "aarch64"} else "x86",
            "bitness": "64",
            "model": "",
            "mobile": False,
        },
    }
