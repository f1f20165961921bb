"""Selectors at run time: where they come from, what is refused, the way back, and what they find on a page."""

import asyncio
import datetime as dt
import hashlib
import ipaddress
import logging
import os
import re
import ssl
import stat
import sys
from asyncio.subprocess import PIPE, STDOUT
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from fixtures_browser import friend, kind, linked, page, pages
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from browser.page import selectors
from browser.page.whatsapp import WhatsApp
from commands import selectors as command
from crypto import CryptoError, new_signing_key, sign_file, verify_file
from errors import OperatorError, SelectorsWrong, UiChanged
from server import config, listen, running
from tasks.web.selector_download import CAP
from tasks.web.selector_source import SelectorSource
from tasks.web.selector_store import KEPT, age

__all__ = ["friend", "kind", "linked", "page", "pages"]

ROOT = Path(__file__).parent.parent
SHIPPED = selectors.load()
TEXT = Path(selectors.__file__).with_name("selectors.toml").read_text("utf-8")
PRIVATE, PUBLIC = new_signing_key()
ELSE_PRIVATE, ELSE_PUBLIC = new_signing_key()


def version(name: str, text: str = TEXT) -> bytes:
    """The shipped file by another version's name."""
    return text.replace(f'version = "{SHIPPED.version}"', f'version = "{name}"', 1).encode()


# --- what a file may hold


@pytest.mark.parametrize(
    ("css", "said"),
    [
        ("#pane-side[", "']' is missing"),
        ("div:has(> a", "')' is missing"),
        ("a)", "')' closes nothing"),
        ("a[b=(])", "']' closes nothing"),
        ("[a='b]", "a quote is not closed"),
        ("a {", "'{' is not allowed there"),
        ("a } b", "'}' is not allowed there"),
        ("a, , b", "is not allowed there"),
        ("a,", "is not allowed there"),
        ("a >", "is not allowed there"),
        ("a /* b", "is not allowed there"),
    ],
)
def test_what_is_no_selector_is_refused(css: str, said: str) -> None:
    with pytest.raises(SelectorsWrong, match=f"elements.pane.*{re.escape(said)}"):
        selectors.parse(TEXT.replace("#pane-side", css.replace('"', '\\"'), 1))


@pytest.mark.parametrize(
    "css", ["a[b='{']", "a:is(b, c) > d", ".a\\\\:b", "li:nth-child(2n + 1 of .x)", "[x='it\\\\'s']"]
)
def test_what_is_one_is_not(css: str) -> None:
    assert selectors.parse(TEXT.replace("#pane-side", css, 1)).elements["pane"][0] == css.replace("\\\\", "\\")


def test_versions_have_an_order() -> None:
    names = ["2026-11-20", "2026-11-20.2", "2026-11-20.10", "2026-12-01", "2999-01-01"]
    assert sorted([*names[3:], *names[:3]], key=age) == names
    assert age(SHIPPED.version)
    for wrong in ("own", "", "2026-11-20.", "../2026-11-20", "2026-11-20-2"):
        with pytest.raises(SelectorsWrong, match="must be a day"):
            age(wrong)


# --- signatures


def test_a_signature_fits_one_content_and_one_key() -> None:
    signature = sign_file(PRIVATE, b"content")
    verify_file(PUBLIC, f"{signature}\n", b"content")
    for key, given, content in (
        (PUBLIC, signature, b"content "),
        (ELSE_PUBLIC, signature, b"content"),
        (PUBLIC, sign_file(ELSE_PRIVATE, b"content"), b"content"),
        (PUBLIC, signature[:-8], b"content"),
        (PUBLIC, "", b"content"),
        (PUBLIC, "no base64", b"content"),
        ("", signature, b"content"),
        (PUBLIC[4:], signature, b"content"),
    ):
        with pytest.raises(CryptoError):
            verify_file(key, given, content)


# --- SELECTORS_FILE


async def test_a_file_is_read_again_when_it_changes(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    file = tmp_path / "own.toml"
    file.write_bytes(version("own"))
    used: list[selectors.Selectors] = []
    source = SelectorSource.at(tmp_path / "kept", file, None, None)
    source.use = used.append
    assert (source.load().version, source.origin) == ("own", f"file {file}")
    await source.run_once()
    assert used == []
    file.write_bytes(version("another one"))
    await source.run_once()
    await source.run_once()
    assert [each.version for each in used] == ["another one"]
    for wrong in (b"[texts", b"\xff", version("x", TEXT.replace("#pane-side", "#pane-side[", 1))):
        caplog.clear()
        file.write_bytes(wrong)
        await source.run_once()
        await source.run_once()
        assert len(caplog.records) == 1
        assert "Selectors another one stay in use." in caplog.text
    file.unlink()
    await source.run_once()
    file.write_bytes(version("the last"))
    await source.run_once()
    assert [each.version for each in used] == ["another one", "the last"]


def test_a_wrong_file_or_key_ends_the_start(tmp_path: Path) -> None:
    with pytest.raises(SelectorsWrong, match="cannot be read"):
        SelectorSource.at(tmp_path, tmp_path / "none.toml", None, None).load()
    with pytest.raises(SelectorsWrong, match="SELECTORS_KEY: a public key is 32 bytes in base64, not 3"):
        SelectorSource.at(tmp_path, None, "https://x/", "AAAA")


def test_nothing_set_is_the_shipped_ones(tmp_path: Path) -> None:
    source = SelectorSource.at(tmp_path, None, None, None)
    assert (source.load(), source.origin) == (SHIPPED, "shipped")


# --- SELECTORS_URL


@dataclass
class Receiver:
    """A server of selectors, over real TLS with a certificate that only `tls` trusts."""

    tls: ssl.SSLContext
    url: str = ""
    content: bytes = b""
    signature: bytes = b""
    #: answers instead of the file
    instead: Response | None = None
    statuses: list[int] = field(default_factory=list)

    def publish(self, content: bytes, private: str = PRIVATE) -> None:
        self.content, self.signature = content, sign_file(private, content).encode()

    async def file(self, request: Request) -> Response:
        etag = f'"{hashlib.sha256(self.content).hexdigest()}"'
        answer = Response(self.content, headers={"etag": etag})
        if request.headers.get("if-none-match") == etag:
            answer = Response(status_code=304)
        self.statuses.append(answer.status_code)
        return self.instead or answer

    async def sig(self, _: Request) -> Response:
        return Response(self.signature)


def certificate(folder: Path) -> tuple[Path, Path]:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now = dt.datetime.now(dt.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem, private = folder / "cert.pem", folder / "key.pem"
    pem.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    private.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return pem, private


@pytest.fixture
async def receiver(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Receiver]:
    pem, private = certificate(tmp_path_factory.mktemp("tls"))
    made = Receiver(ssl.create_default_context(cafile=str(pem)))
    app = Starlette(routes=[Route("/s.toml", made.file), Route("/s.toml.sig", made.sig)])
    listener = listen()
    port = listener.getsockname()[1]
    made.url = f"https://127.0.0.1:{port}/s.toml"
    async with running(config(app, "127.0.0.1", port, tls=(pem, private)), listener=listener):
        yield made


@dataclass
class Worker:
    """A source as a worker has it; `look` makes it ask the address now."""

    receiver: Receiver
    folder: Path
    key: str = PUBLIC
    used: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.source = SelectorSource.at(self.folder, None, self.receiver.url, self.key, self.receiver.tls)
        self.source.use = lambda found: self.used.append(found.version)
        self.first = self.source.load().version

    async def look(self) -> None:
        self.source._next = 0.0
        await self.source.run_once()


@pytest.fixture
def worker(receiver: Receiver, tmp_path: Path) -> Worker:
    return Worker(receiver, tmp_path / "selectors")


async def test_signed_ones_are_fetched_used_and_kept(worker: Worker, receiver: Receiver) -> None:
    assert worker.first == SHIPPED.version
    receiver.publish(version("2999-01-01"))
    await worker.look()
    assert worker.used == ["2999-01-01"]
    assert worker.source.origin == "fetched"
    await worker.look()
    assert receiver.statuses == [200, 304], "what did not change is not sent again"
    await worker.source.run_once()
    assert len(receiver.statuses) == 2, "and not asked for before its time"
    assert Worker(replace(receiver, url="https://127.0.0.1:1/"), worker.folder).first == "2999-01-01"
    other = Worker(receiver, worker.folder)
    receiver.publish(version("2999-01-02"))
    await worker.look()
    await other.look()
    assert worker.used[-1:] == other.used == ["2999-01-02"], "a worker of the same folder takes it too"


PACKED = Response(b"x", headers={"content-encoding": "gzip"})


@pytest.mark.parametrize(
    ("published", "instead", "said"),
    [
        ((version("2999-02-01"), ELSE_PRIVATE), None, "not signed by SELECTORS_KEY"),
        ((version("2026-12-31"), PRIVATE), None, "older than one that was here already"),
        ((version("2999-01-01", TEXT + "\n# changed"), PRIVATE), None, "raise the version"),
        ((version("own"), PRIVATE), None, "must be a day"),
        (
            (version("2999-02-01", TEXT.replace("[elements.pane]", "[elements.x]")), PRIVATE),
            None,
            "lacks elements.pane",
        ),
        ((version("2999-02-01", TEXT.replace("#pane-side", "#pane-side[", 1)), PRIVATE), None, "is no CSS selector"),
        ((b"version = '2999-02-01", PRIVATE), None, "not TOML"),
        ((b"\xff\xfe", PRIVATE), None, "not UTF-8"),
        ((b"#" * (CAP + 1), PRIVATE), None, "larger than 1048576 bytes"),
        ((b"", PRIVATE), Response(status_code=404), "answered 404"),
        ((b"", PRIVATE), RedirectResponse("/s.toml.sig"), "answered 307"),
        ((b"", PRIVATE), PACKED, "packed as gzip"),
    ],
)
async def test_what_is_wrong_is_refused_with_one_line(
    worker: Worker, caplog: pytest.LogCaptureFixture, published: tuple[bytes, str], instead: Response | None, said: str
) -> None:
    receiver = worker.receiver
    receiver.publish(version("2999-01-01"))
    await worker.look()
    receiver.publish(*published)
    receiver.instead = instead
    with caplog.at_level(logging.WARNING, "tasks"):
        await worker.look()
    (line,) = caplog.messages
    assert said in line
    assert line.endswith("Selectors 2999-01-01 stay in use.")
    assert worker.used == ["2999-01-01"]
    assert Worker(receiver, worker.folder).first == "2999-01-01"
    receiver.publish(version("2999-03-01"))
    receiver.instead = None
    await worker.look()
    assert worker.used == ["2999-01-01", "2999-03-01"], "what is right again is taken"


async def test_a_server_that_is_away_or_not_trusted_changes_nothing(
    worker: Worker, receiver: Receiver, caplog: pytest.LogCaptureFixture
) -> None:
    receiver.publish(version("2999-01-01"))
    for url, tls in ((receiver.url, None), ("https://127.0.0.1:1/s.toml", receiver.tls)):
        assert worker.source.download
        worker.source.download.url, worker.source.download.tls = url, tls
        await worker.look()
    assert len(caplog.messages) == 2
    assert worker.used == []


async def test_older_than_the_shipped_is_refused_and_passed_over(
    receiver: Receiver, tmp_path: Path, worker: Worker
) -> None:
    receiver.publish(version("2020-01-01"))
    await worker.look()
    assert worker.used == []
    assert not (tmp_path / "selectors").exists()
    worker.source.store.keep(replace(SHIPPED, version="2020-01-01"), receiver.content, receiver.signature)
    assert Worker(receiver, worker.folder).first == SHIPPED.version, "Postrider itself became newer"


async def test_the_newest_and_three_are_kept_and_one_can_be_pinned(worker: Worker, receiver: Receiver) -> None:
    names = [f"2999-01-{day:02}" for day in range(1, 8)]
    for name in names[:2]:
        receiver.publish(version(name))
        await worker.look()
    worker.source.store.pin(names[0])
    await worker.source.run_once()
    assert (worker.used[-1], worker.source.origin) == (names[0], "pinned")
    for name in names[2:]:
        receiver.publish(version(name))
        await worker.look()
    assert worker.used[-1] == names[0], "new ones come in and are not used"
    assert worker.source.store.versions() == [*reversed(names[-KEPT:]), names[0]]
    assert Worker(receiver, worker.folder).first == names[0]
    for given, used in (("shipped", SHIPPED.version), (names[-2], names[-2]), ("newest", names[-1])):
        worker.source.store.pin(given)
        await worker.source.run_once()
        assert worker.used[-1] == used
    for wrong in (names[1], "2030-01-01", "../../etc/passwd"):
        with pytest.raises(SelectorsWrong):
            worker.source.store.pin(wrong)


async def test_what_was_kept_is_verified_again(
    worker: Worker, receiver: Receiver, caplog: pytest.LogCaptureFixture
) -> None:
    receiver.publish(version("2999-01-01"))
    await worker.look()
    kept = worker.folder / "2999-01-01.toml"
    kept.write_bytes(kept.read_bytes() + b"\n# changed on disk")
    assert Worker(receiver, worker.folder).first == SHIPPED.version
    assert "passed over" in caplog.text
    kept.write_bytes(receiver.content)
    assert Worker(receiver, worker.folder).first == "2999-01-01"
    changed = Worker(receiver, worker.folder, ELSE_PUBLIC)
    assert changed.first == SHIPPED.version, "another key does not stand for it"
    receiver.publish(receiver.content, ELSE_PRIVATE)
    await changed.look()
    assert changed.used == ["2999-01-01"], "until the same is signed by it"


# --- the commands


async def run(*arguments: str, **environment: str) -> tuple[int, str]:
    clean = {
        name: value for name, value in os.environ.items() if not name.startswith(("SELECTORS_", "ENV", "DATABASE"))
    }
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "cli", "selectors", *arguments,
        cwd=ROOT, env={**clean, **environment}, stdout=PIPE, stderr=STDOUT,
    )  # fmt: skip
    output, _ = await process.communicate()
    return process.returncode or 0, output.decode()


@pytest.mark.long
async def test_the_commands_make_sign_check_list_and_pin(
    receiver: Receiver, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    key, file = tmp_path / "key", tmp_path / "own.toml"
    command.keygen(key)
    printed = capsys.readouterr().out
    (public,) = re.findall(r"^SELECTORS_KEY=(\S+)$", printed, re.MULTILINE)
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    assert key.read_text().strip() not in printed
    file.write_bytes(version("2999-01-01"))
    command.check(file)
    assert capsys.readouterr().out.startswith(f"{file} is valid: version 2999-01-01")
    command.sign(file, key)
    receiver.content, receiver.signature = file.read_bytes(), (tmp_path / "own.toml.sig").read_bytes()
    worker = Worker(receiver, tmp_path / "selectors", public)
    await worker.look()
    environment = {"DATA_DIR": str(tmp_path), "SELECTORS_URL": receiver.url, "SELECTORS_KEY": public}
    assert (await run("use", "shipped", **environment))[0] == 0
    await worker.source.run_once()
    assert worker.used == ["2999-01-01", SHIPPED.version]
    listed = f"in use  {SHIPPED.version} (pinned)\npinned  shipped\nfetched 2999-01-01\n"
    assert (await run("list", **environment)) == (0, listed)
    code, output = await run("use", "2999-01-02", **environment)
    assert (code, output.startswith("postrider: Selectors 2999-01-02 are not kept")) == (1, True)


def test_what_the_commands_refuse(tmp_path: Path) -> None:
    (tmp_path / "here").write_text("a key")
    with pytest.raises(OperatorError, match="exists already"):
        command.keygen(tmp_path / "here")
    with pytest.raises(OperatorError, match="cannot be written"):
        command.keygen(tmp_path / "none" / "key")
    with pytest.raises(OperatorError, match="cannot be read"):
        command.check(tmp_path / "none")
    with pytest.raises(OperatorError, match="holds no private key"):
        (tmp_path / "own.toml").write_text(TEXT)
        command.sign(tmp_path / "own.toml", tmp_path / "here")
    assert not (tmp_path / "own.toml.sig").exists()


# --- on the page


async def test_a_live_page_takes_other_selectors(page: WhatsApp) -> None:
    other = replace(SHIPPED, version="2999-01-01", elements=SHIPPED.elements | {"search": ["#nowhere"]})
    page.use(other)
    try:
        with pytest.raises(UiChanged, match=r"no search .*selectors 2999-01-01"):
            await page.settle_in()
    finally:
        page.use(SHIPPED)
    await page.settle_in()


async def test_settling_in_tells_once_by_which_alternatives(page: WhatsApp, caplog: pytest.LogCaptureFixture) -> None:
    page.use(SHIPPED)
    with caplog.at_level(logging.INFO, "browser.page.census"):
        await page.settle_in()
        await page.settle_in()
    assert [record.levelname for record in caplog.records] == ["INFO"]
    assert "pane by alternative 1, search by alternative 1" in caplog.text
    caplog.clear()
    elements = SHIPPED.elements | {"pane": ["#gone", "a:unheard-of(b)", "#pane-side"], "search": ["#side input"]}
    page.use(replace(SHIPPED, elements=elements))
    await page.settle_in()
    page.use(SHIPPED)
    assert "only the last of 3 alternatives still finds pane (#pane-side)" in caplog.text
    assert "have invalid CSS: a:unheard-of(b)" in caplog.text
    assert "finds search" not in caplog.text, "the only one is not the last resort"
