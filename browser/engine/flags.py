"""Chromium's command-line flags, and the identity that pages see. Figures are MB of PSS saved per session."""

import platform
import sys
from typing import Any

#: Playwright's own lists (chromiumSwitches in its driver, 1.65). Chromium heeds only the last --disable-features and
#: --enable-features on its command line, so ours must repeat Playwright's; a test compares them with a live process.
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
#: MB saved, measured with three sessions open: omnibox pop-ups 43, spare renderer 8, network service 17
OFF = [*PLAYWRIGHT_OFF, "SpareRendererForSitePerProcess", "WebUIOmniboxPopup", "WebUIOmniboxAimPopup"]
ON = [*PLAYWRIGHT_ON, "NetworkServiceInProcess2"]

#: Telemetry hosts that wa-js advises to block. They are blocked in the resolver: intercepting requests would slow down
#: every one of them, and is known to hang with fonts (puppeteer #6696). Images, fonts and media are not blocked: that
#: saves no memory (measured) and makes the page less stable (open-wa #638).
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
#: With a proxy, no lookup and no traffic may go around it. The proxy resolves names and local lookups all fail, so the
#: telemetry hosts are blocked by exempting them from the proxy (BYPASS). WebRTC would reveal the machine's own address
#: over UDP. Chromium heeds the last --host-resolver-rules: this one, not Playwright's (which contains quotes and has no
#: effect).
PROXIED = (
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
    "--force-webrtc-ip-handling-policy=disable_non_proxied_udp",
)
BYPASS = ",".join(TELEMETRY)


def user_agent(version: str) -> str:
    """Return the User-Agent of a windowed Chrome of this version; WhatsApp refuses HeadlessChrome (wa-js #3501).

    The minor numbers are zero in every Chrome since 101 (user-agent reduction).
    """
    system = "Macintosh; Intel Mac OS X 10_15_7" if sys.platform == "darwin" else "X11; Linux x86_64"
    major = version.partition(".")[0]
    return f"Mozilla/5.0 ({system}) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/{major}.0.0.0 Safari/537.36"


def identity(agent: str, version: str) -> dict[str, Any]:
    """Make the argument of Emulation.setUserAgentOverride, so that client hints do not name HeadlessChrome either.

    The brands are those of a windowed Chromium; the first is its deliberate placeholder (GREASE).
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
