"""Evidence of failures: what of a page is kept and what is not, and where it is kept."""

import asyncio
import base64
import hashlib
import hmac
import logging
import os
import stat
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import quote

import pytest
from fixtures_browser import SELECTORS, Pages, friend, kind, linked, new_account, new_phone, page, pages, serving, until
from playwright.async_api import Page
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from browser.engine import profile
from browser.engine.engine import look_for
from browser.page.bubbles import Tick
from browser.page.evidence import HIDDEN, take
from browser.page.screens import Screen
from browser.page.selectors import ELEMENTS
from browser.page.whatsapp import WhatsApp
from errors import SettingsWrong
from tasks.web.evidence_store import STAMP, EvidenceStore

__all__ = ["friend", "kind", "linked", "page", "pages"]

PNG = b"\x89PNG"
#: lies on the page without moving anything in it; `place` holds what is added
ADD = """([place, html]) => {
    const node = document.createElement("div");
    node.id = "added";
    node.style = "position: absolute; left: 20px; top: 40px; font: 20px monospace";
    node.innerHTML = html;
    // The page's policy keeps styles out that come with HTML, as a real page's does.
    for (const each of node.querySelectorAll("[data-style]")) each.style.cssText = each.dataset.style;
    document.querySelector(place).append(node);
}"""
#: counts the shades that are not alike
COMPARE = """async (pictures) => {
    const read = async (url) => {
        const picture = await createImageBitmap(await (await fetch(url)).blob());
        const canvas = new OffscreenCanvas(picture.width, picture.height);
        const brush = canvas.getContext("2d");
        brush.drawImage(picture, 0, 0);
        return brush.getImageData(0, 0, picture.width, picture.height).data;
    };
    const [one, other] = await Promise.all(pictures.map(read));
    let count = one.length === other.length ? 0 : Infinity;
    for (let at = 0; at < one.length; at += 1) if (Math.abs(one[at] - other[at]) > 40) count += 1;
    return count;
}"""
REMOVE = "document.getElementById('added').remove()"
DIALOG = (
    '<div role="dialog" data-style="position: fixed; inset: 200px; z-index: 9999; background: white">'
    "{}<button>OK</button></div>"
)


@pytest.fixture(scope="module")
async def canvas(pages: Pages, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Page]:
    """A page of nobody's, to look at pictures with."""
    directory = tmp_path_factory.mktemp("canvas")
    profile.prepare(directory)
    context = await pages.engine.open(directory, look_for("acc_canvas"))
    yield context.pages[0]
    await context.close()


async def alike(canvas: Page, *pictures: bytes) -> bool:
    # Edges of round things are drawn a shade lighter or darker from one time to the other; a word has a thousand.
    urls = [f"data:image/png;base64,{base64.b64encode(picture).decode()}" for picture in pictures]
    return bool(await canvas.evaluate(COMPARE, urls) < 50)


@asynccontextmanager
async def added(page: WhatsApp, place: str, html: str) -> AsyncIterator[None]:
    await page._page.evaluate(ADD, [place, html])
    try:
        yield
    finally:
        await page._page.evaluate(REMOVE)


# --- what of a page


async def come_to_rest(page: WhatsApp, friend: str) -> None:
    """Open a chat and let nothing of it move any more: neither the caret nor its message's tick."""
    await page.open_chat(friend)
    await page._page.evaluate("document.activeElement.blur()")
    await until(lambda: page._page.locator("#main [aria-label=' Read ']").count())


async def test_no_word_of_a_chat_is_kept_and_the_structure_is(
    pages: Pages, page: WhatsApp, linked: tuple[str, WhatsApp], friend: str
) -> None:
    sender = new_phone()
    await page.open_chat(friend)
    await pages.phone(linked[0], "incoming", phone=sender, text="Meet me at the lighthouse")
    await until(lambda: page._page.get_by_text("lighthouse").count())
    await page.write("a half-written draft")
    evidence = await page.evidence()
    await page.clear()
    said = evidence.html.lower()
    for private in (
        "lighthouse",
        "hello, friend",
        "draft",
        "aunt rosa",
        "okafor",
        "encrypted",
        friend,
        sender,
        f"{friend[-7:-4]}-{friend[-4:]}",
        f"{sender[-7:-4]}-{sender[-4:]}",
    ):
        assert private not in said, private
    for kept in (
        'id="pane-side"',
        'role="row"',
        'contenteditable="true"',
        'aria-label="Search or start a new chat"',
        "<svg",
        "data-tab",
    ):
        assert kept in evidence.html, kept
    assert "<script" not in said
    assert f"selectors {SELECTORS.version}" in evidence.html
    assert evidence.png.startswith(PNG)


@pytest.mark.parametrize(
    "place",
    [*(pytest.param(one, marks=pytest.mark.long) for one in ("#pane-side", "#main header", "#side")), "#main", "body"],
)
async def test_nothing_that_is_written_there_is_seen_in_the_picture(
    page: WhatsApp, friend: str, canvas: Page, place: str
) -> None:
    await come_to_rest(page, friend)
    bare = (await page.evidence()).png
    blob = "data:image/svg+xml,<svg xmlns='http://www.w3.org/2000/svg'><rect width='30' height='30'/></svg>"
    secrets = (
        "<b>Secret 😀</b>",
        '<b data-style="color: red !important; text-decoration: underline">Secret</b>',
        '<b data-style="transition: -webkit-text-fill-color 9s">Secret</b>',
        '<input placeholder="secret" data-style="all: unset"><textarea data-style="all: unset">secret</textarea>',
        f'<img src="{blob}">',
        f'<i data-style="background: url(&quot;{blob}&quot;)">face</i>',
    )
    for secret in secrets:
        async with added(page, place, secret):
            assert await alike(canvas, (await page.evidence()).png, bare), secret
    async with added(page, place, '<b data-style="background: red">&nbsp;&nbsp;</b>'):
        assert not await alike(canvas, (await page.evidence()).png, bare), "the comparison sees a difference"


async def test_a_dialog_is_read_but_for_the_numbers_in_it(page: WhatsApp, friend: str, canvas: Page) -> None:
    await come_to_rest(page, friend)
    pictures = []
    for words, kept in (
        ("The number +1 555-123-4567 is not here.", "The number xx xxxxxxxxxxxx is not here."),
        ("The number +1 555-765-4321 is not here.", "The number xx xxxxxxxxxxxx is not here."),
        ("What is this?", "What is this?"),
    ):
        async with added(page, "body", DIALOG.format(words)):
            evidence = await page.evidence()
        pictures.append(evidence.png)
        assert kept in evidence.html
    assert await alike(canvas, pictures[0], pictures[1])
    assert not await alike(canvas, pictures[1], pictures[2])


async def test_what_people_wrote_in_a_dialog_is_not_read(page: WhatsApp, friend: str) -> None:
    await page.open_chat(friend)
    rows = '<div role="row"><span title="Aunt Rosa">Aunt Rosa</span></div><p contenteditable="true">caption</p>'
    async with added(page, "body", DIALOG.format(f"Forward to {rows}")):
        html = (await page.evidence()).html
    assert "Forward to" in html
    assert "Rosa" not in html
    assert "caption" not in html


async def test_the_page_is_as_it_was_afterwards(page: WhatsApp, friend: str) -> None:
    await page.open_chat(friend)

    async def read() -> bool:
        return Tick.READ in (await page.chat_ticks()).values()

    await until(read)  # or its tick changes under the comparison
    before = await page._page.content()
    await page.evidence()
    assert await page._page.content() == before
    left = "[document.adoptedStyleSheets.length, CSS.highlights.size]"
    assert await page._page.evaluate(left) == [0, 0]


async def test_a_code_is_never_kept(pages: Pages, canvas: Page, kind: str) -> None:
    page = await pages.open(new_account(), kind)
    try:
        await page.wait_screen(Screen.QR, timeout=30)
        payload = await until(page.qr)
        evidence = await page.evidence()
        bare = evidence.png
        assert "Scan to log in" in evidence.html
        assert payload is not None
        assert payload[:20] not in evidence.html
        await page._page.evaluate("document.querySelector('canvas').getContext('2d').fillRect(0, 0, 228, 228)")
        assert await alike(canvas, (await page.evidence()).png, bare)
        await page.ask_pairing_code(new_phone())
        code = await until(page.pairing_code)
        html = (await page.evidence()).html
        assert code is not None
        assert "Enter code on phone" in html
        assert code.replace("-", ",") not in html
        assert not [cell for cell in code.replace("-", "") if f">{cell}<" in html]
    finally:
        await page.close()


@asynccontextmanager
async def blank(pages: Pages, tmp_path: Path) -> AsyncIterator[Page]:
    directory = profile.directory_of(tmp_path, "acc_blank")
    profile.prepare(directory)
    context = await pages.engine.open(directory, look_for("acc_blank"))
    try:
        yield context.pages[0]
    finally:
        await context.close()


async def test_a_page_that_nobody_knows_is_read_unless_it_may_be_chats(pages: Pages, tmp_path: Path) -> None:
    async with blank(pages, tmp_path) as strange:
        await strange.set_content("<h1>We have new terms</h1><p>Agree by 1 June. Questions: +1 555 123 4567.</p>")
        html = (await take(strange, SELECTORS)).html
        assert "We have new terms" in html
        assert "Agree by 1 June." in html
        assert "4567" not in html
        chat = "<div class=x1><b>Aunt Rosa</b><i>07:32</i><u>See you there</u></div>"
        await strange.set_content(f"<section>{chat * 20}</section><div role=alert>You are offline</div>")
        html = (await take(strange, SELECTORS)).html
        assert "Rosa" not in html
        assert "See you" not in html
        assert "You are offline" in html
        assert html.count('class="x1"') == 20
        await strange.set_content(
            f"<script>1</script><p onclick='x' style='background: url(\"a.png\")'>{'word ' * 500_000}</p>"
        )
        html = (await take(strange, SELECTORS)).html
        assert "cut off here" in html
        assert "a.png" not in html
        assert "onclick" not in html


async def test_a_page_that_hangs_gives_nothing_and_soon(pages: Pages, tmp_path: Path) -> None:
    async with blank(pages, tmp_path) as hung:
        await hung.evaluate("setTimeout(() => { const end = Date.now() + 3000; while (Date.now() < end); })")
        async with asyncio.timeout(30):
            evidence = await take(hung, SELECTORS, seconds=0.3)
        assert (evidence.png, evidence.html) == (b"", "")
        await hung.evaluate("1")


def test_what_is_hidden_is_known() -> None:
    assert set(HIDDEN) <= ELEMENTS


# --- where


async def test_a_folder(page: WhatsApp, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    store = EvidenceStore.at(None, tmp_path / "evidence")
    with caplog.at_level(logging.WARNING):
        name = await store.keep("acc_1", "ui_changed", page, "job_1")
    assert name is not None
    assert name.startswith("acc_1/2")
    assert name.endswith("Z-ui_changed")
    assert name in caplog.text
    png, html = (tmp_path / "evidence" / f"{name}{end}" for end in (".png", ".html"))
    assert png.read_bytes().startswith(PNG)
    assert html.read_text("utf-8").startswith("<!-- ")
    modes = [stat.S_IMODE(path.stat().st_mode) for path in (png, html, png.parent, png.parent.parent)]
    assert modes == [0o600, 0o600, 0o700, 0o700]


async def test_no_more_than_so_many_in_an_hour(
    page: WhatsApp, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store = EvidenceStore.at(str(tmp_path), tmp_path / "unused")
    store.per_hour = 2
    names = [await store.keep("acc_1", "page_hung", page) for _ in range(5)]
    assert [bool(name) for name in names] == [True, True, False, False, False]
    assert caplog.text.count("no more are kept") == 1
    assert await store.keep("acc_2", "page_hung", page), "another account has its own"
    assert len(found(tmp_path, "*.png")) == 3
    assert not (tmp_path / "unused").exists()


def write(root: Path, name: str) -> None:
    (root / name).parent.mkdir(exist_ok=True)
    (root / name).write_text("x")


def found(root: Path, pattern: str) -> set[str]:
    return {str(path.relative_to(root)) for path in root.rglob(pattern)}


async def test_the_sweep_deletes_what_is_old_and_ours(tmp_path: Path) -> None:
    now = datetime.now(UTC)
    old, new = (f"acc_1/{now - timedelta(days=days):{STAMP}}-page_hung" for days in (91, 89))
    for name in (f"{old}.png", f"{old}.html", f"{new}.png", f"{old}.txt", "notes.html", "acc_1/19990101-x.png"):
        write(tmp_path, name)
    store = EvidenceStore.at(str(tmp_path), tmp_path)
    assert await store.sweep(0) == 0
    assert await store.sweep(90) == 2
    assert found(tmp_path, "*.*") == {f"{new}.png", f"{old}.txt", "notes.html", "acc_1/19990101-x.png"}
    assert await store.sweep(90) == 0


async def test_a_store_that_fails_is_logged_and_nothing_more(
    page: WhatsApp, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store = EvidenceStore.at(str(tmp_path / "folder"), tmp_path)
    (tmp_path / "folder").rmdir()
    (tmp_path / "folder").write_text("in the way")
    assert await store.keep("acc_1", "page_hung", page) is None
    assert "could not be kept" in caplog.text
    assert await store.sweep(1) == 0


async def test_a_page_without_an_answer_leaves_a_line(
    pages: Pages, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    closed = await pages.open(new_account(), "legacy")
    await closed.close()
    assert await EvidenceStore.at(str(tmp_path), tmp_path).keep("acc_1", "browser_lost", closed) is None
    assert "the page gave no evidence of browser_lost" in caplog.text


@pytest.mark.parametrize("url", ["gs://bucket/x", "http://host/x", "s3:///x"])
def test_other_places_are_refused(url: str, tmp_path: Path) -> None:
    with pytest.raises(SettingsWrong, match="EVIDENCE_URL"):
        EvidenceStore.at(url, tmp_path)


# --- a bucket

ID, SECRET, TOKEN, REGION = "AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG", "token-of-the-session", "eu-test-1"


class Bucket:
    """As much of S3 as is needed: puts, lists and deletes objects, and checks every signature."""

    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}
        self.answer = 200
        self.app = Starlette(
            routes=[
                Route("/bucket", self.act, methods=["GET", "POST"]),
                Route("/bucket/{key:path}", self.act, methods=["PUT", "GET", "DELETE", "POST"]),
            ]
        )

    async def act(self, request: Request) -> Response:
        body = await request.body()
        if self.answer != 200 or not self.is_signed(request, body):
            words = f"<Error><Code>Denied</Code><AWSAccessKeyId>{ID}</AWSAccessKeyId></Error>"
            return Response(words, 403, media_type="application/xml")
        key = request.path_params.get("key", "")
        if request.method == "PUT":
            self.objects[key] = body
            return Response(headers={"etag": '"1"'})
        if request.method == "GET":
            return Response(self.listed(request.query_params.get("prefix", "")), media_type="application/xml")
        doomed = [name for name in self.objects if f"<Key>{name}</Key>".encode() in body]
        for name in doomed:
            del self.objects[name]
        found = "".join(f"<Deleted><Key>{name}</Key></Deleted>" for name in doomed)
        return Response(f"<DeleteResult>{found}</DeleteResult>", media_type="application/xml")

    def listed(self, prefix: str) -> str:
        at = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.000Z")
        found = "".join(
            f'<Contents><Key>{key}</Key><LastModified>{at}</LastModified><Size>{len(content)}</Size><ETag>"1"</ETag></Contents>'
            for key, content in self.objects.items()
            if key.startswith(prefix)
        )
        return f"<ListBucketResult><Name>bucket</Name><IsTruncated>false</IsTruncated>{found}</ListBucketResult>"

    def is_signed(self, request: Request, body: bytes) -> bool:
        """Check AWS Signature Version 4."""
        kind, _, rest = request.headers["authorization"].partition(" ")
        given = dict(part.strip().split("=", 1) for part in rest.split(","))
        names = given["SignedHeaders"].split(";")
        day = request.headers["x-amz-date"][:8]
        scope = f"{day}/{REGION}/s3/aws4_request"
        query = "&".join(
            sorted(f"{quote(k, safe='')}={quote(v, safe='')}" for k, v in request.query_params.multi_items())
        )
        digest = request.headers["x-amz-content-sha256"]
        lines = [
            request.method,
            quote(request.url.path),
            query,
            *(f"{name}:{request.headers[name]}" for name in names),
            "",
            ";".join(names),
            digest,
        ]
        hashed = hashlib.sha256("\n".join(lines).encode()).hexdigest()
        key = b"AWS4" + SECRET.encode()
        for part in (*scope.split("/"), f"AWS4-HMAC-SHA256\n{request.headers['x-amz-date']}\n{scope}\n{hashed}"):
            key = hmac.digest(key, part.encode(), "sha256")
        return (
            kind == "AWS4-HMAC-SHA256"
            and given["Credential"] == f"{ID}/{scope}"
            and request.headers["x-amz-security-token"] == TOKEN
            and digest == hashlib.sha256(body).hexdigest()
            and given["Signature"] == key.hex()
        )


@pytest.fixture
async def bucket(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Bucket]:
    made = Bucket()
    async with serving(made.app) as origin:
        for name in [name for name in os.environ if name.startswith("AWS_")]:
            monkeypatch.delenv(name)
        settings = {
            "ENDPOINT_URL": origin,
            "ALLOW_HTTP": "true",
            "ACCESS_KEY_ID": ID,
            "SECRET_ACCESS_KEY": SECRET,
            "SESSION_TOKEN": TOKEN,
            "REGION": REGION,
        }
        for name, value in settings.items():
            monkeypatch.setenv(f"AWS_{name}", value)
        yield made


async def test_a_bucket(page: WhatsApp, bucket: Bucket, tmp_path: Path) -> None:
    store = EvidenceStore.at("s3://bucket/kept/here", tmp_path / "unused")
    name = await store.keep("acc_1", "unknown_dialog", page)
    assert set(bucket.objects) == {f"kept/here/{name}.png", f"kept/here/{name}.html"}
    assert bucket.objects[f"kept/here/{name}.png"].startswith(PNG)
    assert not (tmp_path / "unused").exists()
    old = f"acc_2/{datetime.now(UTC) - timedelta(days=91):{STAMP}}-page_hung.png"
    bucket.objects |= {f"kept/here/{old}": b"x", old: b"not under the prefix"}
    assert await store.sweep(90) == 1
    assert set(bucket.objects) == {f"kept/here/{name}.png", f"kept/here/{name}.html", old}


async def test_a_bucket_that_refuses_is_logged_without_credentials(
    page: WhatsApp, bucket: Bucket, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    bucket.answer = 403
    store = EvidenceStore.at("s3://bucket", tmp_path)
    assert await store.keep("acc_1", "page_hung", page) is None
    assert await store.sweep(90) == 0
    assert "could not be kept" in caplog.text
    assert "could not be deleted" in caplog.text
    assert not [each for each in (ID, SECRET, TOKEN) if each in caplog.text]
