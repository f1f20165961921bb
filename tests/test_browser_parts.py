"""Parts of the driver without a page: selectors, states, calls of Playwright, profiles, finding Chromium, ticks."""

import itertools
import json
import re
import shutil
import stat
from pathlib import Path
from typing import Any

import playwright.async_api
import pytest

import errors
from browser.engine import chromium, playwright_calls, profile
from browser.engine.engine import look_for
from browser.page import selectors
from browser.page.bubbles import Bubble, Side, Tick, read_bubbles, read_tick
from browser.page.history import Reason, Verdict, judge
from browser.page.submit import Watch
from tasks.web.states import TRANSITIONS, ForbiddenTransitionError, State, move

SHIPPED = selectors.load()
TEXT = Path(selectors.__file__).with_name("selectors.toml").read_text("utf-8")


# --- selectors


def test_the_shipped_selectors_are_valid_and_have_a_version() -> None:
    assert SHIPPED.version
    assert all(SHIPPED.elements.values())


@pytest.mark.parametrize("table", ["elements", "texts", "labels", "icons"])
def test_what_is_missing_is_named(table: str) -> None:
    names = {"elements": "compose", "texts": "banned", "labels": "sent", "icons": "read"}
    missing = names[table]
    broken = (
        TEXT.replace(f"[elements.{missing}]", "[other]")
        if table == "elements"
        else re.sub(rf"(?ms)^{missing} = \[.*?\](?=[ #\n])", "", TEXT)
    )
    with pytest.raises(errors.SelectorsWrong, match=rf"{missing}"):
        selectors.parse(broken)


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        ('version = "', 'edition = "', "no version"),
        ("[texts]", "[texts", "not TOML"),
        ("banned = [", 'surprise = ["x"]\nbanned = [', "surprise"),
        ('{ css = "#pane-side", seen = "2026-09-24" }', '{ css = "#pane-side" }', "elements.pane"),
        ('crashed = ["unexpected error occurred"]', "crashed = []", "texts.crashed"),
    ],
)
def test_what_is_misshapen_is_named(before: str, after: str, said: str) -> None:
    assert before in TEXT
    with pytest.raises(errors.SelectorsWrong, match=said):
        selectors.parse(TEXT.replace(before, after, 1))


def test_a_file_of_ones_own(tmp_path: Path) -> None:
    (tmp_path / "own.toml").write_text(TEXT.replace(f'version = "{SHIPPED.version}"', 'version = "own"'), "utf-8")
    assert selectors.load(tmp_path / "own.toml").version == "own"
    with pytest.raises(errors.SelectorsWrong, match=r"none\.toml"):
        selectors.load(tmp_path / "none.toml")


# --- states


def test_every_state_has_its_transitions_and_can_be_reached() -> None:
    assert set(TRANSITIONS) == set(State)
    reachable = {State.not_started}.union(*TRANSITIONS.values())
    assert reachable == set(State)


def test_every_state_leads_back_to_ready() -> None:
    for state in State:
        reached = {state}
        while (more := reached.union(*(TRANSITIONS[each] for each in reached))) != reached:
            reached = more
        assert State.ready in reached


@pytest.mark.parametrize(
    "path",
    [
        "not_started starting qr_pending authenticated ready hibernated starting ready",
        "starting ready suspected_ban banned starting ready",
        "ready circuit_open starting ready",
        "ready disconnected starting auth_failed starting qr_pending disconnected",
        "suspected_ban ready",
    ],
)
def test_an_accounts_life(path: str) -> None:
    states = [State(name) for name in path.split()]
    for current, to in itertools.pairwise(states):
        assert move(current, to) is to


@pytest.mark.parametrize(
    ("current", "to"),
    [
        ("not_started", "ready"),
        ("ready", "banned"),
        ("banned", "ready"),
        ("auth_failed", "ready"),
        ("hibernated", "ready"),
    ],
)
def test_what_an_account_cannot_become(current: str, to: str) -> None:
    with pytest.raises(ForbiddenTransitionError, match=rf"{current} cannot become {to}"):
        move(State(current), State(to))


def test_staying_is_allowed() -> None:
    assert all(move(state, state) is state for state in State)


# --- calls of Playwright


def playwright_errors() -> set[type[Exception]]:
    return {
        each
        for each in vars(playwright.async_api).values()
        if isinstance(each, type) and issubclass(each, playwright.async_api.Error)
    } | set(playwright.async_api.Error.__subclasses__())


def test_every_exception_of_playwright_has_its_class() -> None:
    known = {name for name, pattern, _ in playwright_calls.TABLE if not pattern}
    assert {each.__name__ for each in playwright_errors()} == known


@pytest.mark.parametrize(
    ("error", "ours"),
    [
        (playwright.async_api.TimeoutError("Timeout 5000ms exceeded."), errors.PageHung),
        (playwright.async_api.Error("Page.evaluate: Target crashed"), errors.PageCrashed),
        (playwright.async_api.Error("net::ERR_INTERNET_DISCONNECTED at https://web.whatsapp.com/"), errors.Offline),
        (playwright.async_api.Error("net::ERR_NAME_NOT_RESOLVED at https://web.whatsapp.com/"), errors.Offline),
        (playwright.async_api.Error("Browser has been closed"), errors.BrowserLost),
        (playwright.async_api.Error("Failed to launch the browser process"), errors.BrowserLost),
        (playwright.async_api.Error("TypeError: x is not a function"), errors.PageCrashed),
    ],
)
async def test_translation(error: playwright.async_api.Error, ours: type[errors.SendError]) -> None:
    async def fails() -> None:
        raise error

    with pytest.raises(ours) as caught:
        await playwright_calls.bounded(fails(), 1)
    assert type(caught.value) is ours
    assert str(error) in str(caught.value)


# --- profiles


def test_a_prepared_profile_is_private_and_bears_no_traces(tmp_path: Path) -> None:
    directory = profile.directory_of(tmp_path, "acc_1")
    profile.prepare(directory)
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    (directory / "SingletonLock").symlink_to("another-host-4242")
    (directory / "SingletonCookie").symlink_to("17")
    preferences = directory / "Default" / "Preferences"
    preferences.parent.mkdir()
    preferences.write_text('{"profile": {"exit_type": "Crashed", "name": "me"}, "other": 1}')
    directory.chmod(0o755)
    profile.prepare(directory)
    assert not (directory / "SingletonLock").is_symlink()
    assert not (directory / "SingletonCookie").is_symlink()
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    kept = json.loads(preferences.read_text())
    assert kept["profile"]["exit_type"] == "Normal"
    assert (kept["profile"]["name"], kept["other"]) == ("me", 1)


@pytest.mark.parametrize("torn", ["", '{"profile": ', "[]", '{"profile": 1}'])
def test_torn_preferences_are_left_to_chromium(tmp_path: Path, torn: str) -> None:
    (tmp_path / "Default").mkdir()
    (tmp_path / "Default" / "Preferences").write_text(torn)
    profile.prepare(tmp_path)
    assert (tmp_path / "Default" / "Preferences").read_text() == torn


def test_a_generation_is_kept(tmp_path: Path) -> None:
    assert profile.read_generation(tmp_path / "missing") is None
    assert profile.read_generation(tmp_path) is None
    profile.write_generation(tmp_path, 7)
    profile.write_generation(tmp_path, 8)
    assert profile.read_generation(tmp_path) == 8
    assert [each.name for each in tmp_path.iterdir()] == [profile.MARKER]
    (tmp_path / profile.MARKER).write_text("")
    assert profile.read_generation(tmp_path) is None


@pytest.mark.parametrize("account", ["", "..", "a/b", ".hidden", "/etc"])
def test_an_account_id_never_leads_elsewhere(tmp_path: Path, account: str) -> None:
    with pytest.raises(ValueError, match="no account id"):
        profile.directory_of(tmp_path, account)


# --- Chromium


SLEEP = f"{shutil.which('sleep')} 30"


def program(path: Path) -> Path:
    return script_of(path, "echo Chromium 156.0.8078.79")


def script_of(path: Path, lines: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{lines}\n")
    path.chmod(0o755)
    return path


@pytest.fixture
def bare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine without any Chromium."""
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.setenv("PLAYWRIGHT_BROWSERS_PATH", str(tmp_path / "downloads"))
    monkeypatch.setattr(chromium, "MACOS", ())
    return tmp_path


def test_chromiums_are_tried_in_their_order(bare: Path) -> None:
    def first() -> Path:
        return chromium.candidates(None)[0]

    with pytest.raises(errors.ChromiumMissing, match=r"Run: .*chromium-headless-shell"):
        chromium.candidates(None)
    whole = program(bare / "bin" / "chromium")
    assert first() == whole
    shell = program(bare / "bin" / "chromium-headless-shell")
    assert first() == shell
    older = program(bare / "downloads" / "chromium_headless_shell-999" / "chrome-linux64" / "chrome-headless-shell")
    assert first() == older
    newer = program(bare / "downloads" / "chromium_headless_shell-1255" / "chrome-linux64" / "chrome-headless-shell")
    assert first() == newer
    assert chromium.candidates(whole) == [whole]
    with pytest.raises(errors.ChromiumMissing, match="CHROMIUM_PATH"):
        chromium.candidates(bare / "nothing")


#: Says its version, and shows a page unless a line before ends it.
STARTS = 'case "$*" in *--version*) echo Chromium 156.0.8078.79;; *) {}; echo "<html></html>";; esac'
NO_LIBRARY = "echo 'x: error while loading shared libraries: libnss3.so: cannot open' >&2; exit 127"


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        ("echo Chromium 99.0.4844.51", "99.0.4844.51, and WhatsApp needs 100"),
        ("echo hello", "does not say its version: it printed something else"),
        (NO_LIBRARY, r"libnss3.so: cannot open"),
        (STARTS.format("exit 0"), "does not open a page: it printed something else"),
        (STARTS.format(NO_LIBRARY), r"does not open a page: .*libnss3.so"),
        (SLEEP, "does not say its version: it did not answer within"),
    ],
)
async def test_a_chromium_that_does_not_start_is_refused_with_its_reason(
    script: str, reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if script == SLEEP:
        monkeypatch.setattr(chromium, "TRY_SECONDS", (0.1, 0.3))
    with pytest.raises(errors.ChromiumMissing, match=reason):
        await chromium.find_chromium(script_of(tmp_path / "chromium", script))


async def test_the_next_is_taken_when_the_first_does_not_start_but_not_when_it_is_slow(
    bare: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = bare / "downloads" / "chromium_headless_shell-1255" / "chrome-linux64" / "chrome-headless-shell"
    script_of(broken, NO_LIBRARY)
    whole = script_of(bare / "bin" / "chromium", STARTS.format(":"))
    assert (await chromium.find_chromium(None)).path == whole
    # Slow at first, and well at its second try.
    once = bare / "once"
    shell = script_of(
        bare / "bin" / "google-chrome-stable", STARTS.format(f"[ -e {once} ] || {{ : >{once}; {SLEEP}; }}")
    )
    whole.unlink()
    monkeypatch.setattr(chromium, "TRY_SECONDS", (2.0, 20.0))
    found = await chromium.find_chromium(None)
    assert (found.path, once.exists()) == (shell, True)


async def test_a_driver_that_does_not_start_is_told_with_what_to_install(
    bare: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await chromium.check_driver()
    lacks = "echo 'node: error while loading shared libraries: libatomic.so.1: cannot open' >&2; exit 127"
    monkeypatch.setattr("sys.executable", str(script_of(bare / "python", lacks)))
    program(bare / "bin" / "apt-get")
    with pytest.raises(errors.ChromiumMissing, match=r"libatomic\.so\.1.* Run: sudo apt-get install libatomic1"):
        await chromium.check_driver()


async def test_an_exception_that_is_none_of_playwrights_is_translated_when_the_driver_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    node = script_of(tmp_path / "node", "exit 127")
    monkeypatch.setenv("PLAYWRIGHT_NODEJS_PATH", str(node))
    with pytest.raises(errors.ChromiumMissing, match="driver does not start"):
        await playwright_calls.start_driver(20)


async def test_the_trial_lies_among_the_profiles_and_leaves_nothing(tmp_path: Path) -> None:
    log = tmp_path / "log"
    script = script_of(tmp_path / "chromium", STARTS.format(f'echo "$*" >> {log}'))
    await chromium.find_chromium(script, profiles=tmp_path / "profiles")
    assert f"--user-data-dir={tmp_path}/profiles/{chromium.TRIAL}" in log.read_text()
    assert list((tmp_path / "profiles").iterdir()) == []


async def test_its_own_sandbox_is_on_where_that_starts(tmp_path: Path) -> None:
    needs = STARTS.format('case "$*" in *--no-sandbox*) ;; *) exit 1;; esac')
    free, rooted = script_of(tmp_path / "free", STARTS.format(":")), script_of(tmp_path / "rooted", needs)
    assert (await chromium.find_chromium(free)).sandboxed
    assert not (await chromium.find_chromium(free, sandbox="off")).sandboxed
    assert not (await chromium.find_chromium(rooted)).sandboxed
    with pytest.raises(errors.ChromiumMissing, match="ended with code 1"):
        await chromium.find_chromium(rooted, sandbox="on")


def test_an_account_looks_the_same_every_time_and_not_like_another() -> None:
    assert look_for("acc_1") == look_for("acc_1")
    assert len({look_for(f"acc_{number}") for number in range(20)}) > 10
    assert all(
        1366 <= look_for(f"acc_{n}").width < 1486 and 768 <= look_for(f"acc_{n}").height < 848 for n in range(99)
    )


# --- ticks and verdicts

STAR = {"label": " Starred ", "icon": "wds-ic-star-filled", "color": "rgba(0, 0, 0, 0.6)"}
GREY, BLUE, WHITE = "rgba(0, 0, 0, 0.6)", "rgb(0, 123, 252)", "rgba(255, 255, 255, 0.6)"


@pytest.mark.parametrize(
    ("label", "icon", "color", "tick"),
    [
        (" Pending ", "msg-time", GREY, Tick.PENDING),
        ("", "wds-ic-time", GREY, Tick.PENDING),
        (" Sent ", "wds-ic-delivered", GREY, Tick.SENT),
        ("", "wds-ic-delivered", GREY, Tick.SENT),  # its name misleads
        ("", "msg-check", GREY, Tick.SENT),
        (" Delivered ", "wds-ic-read", BLUE, Tick.DELIVERED),  # the words count before the picture
        ("", "wds-ic-read", GREY, Tick.DELIVERED),
        ("", "wds-ic-read", WHITE, Tick.DELIVERED),
        ("", "wds-ic-read", BLUE, Tick.READ),
        ("", "msg-dblcheck", BLUE, Tick.READ),
        ("", "status-dblcheck", GREY, Tick.DELIVERED),
        ("", "msg-dblcheck-ack", GREY, Tick.READ),
        (" Consegnato ", "wds-ic-read", GREY, Tick.DELIVERED),
        ("", "message-fail", GREY, Tick.FAILED),
        ("90 days after they're sent", "wds-ic-timer", GREY, Tick.UNKNOWN),
        ("", "wds-ic-surprise", BLUE, Tick.UNKNOWN),
    ],
)
def test_a_status_icon(label: str, icon: str, color: str, tick: Tick) -> None:
    assert read_tick([STAR, {"label": label, "icon": icon, "color": color}], SHIPPED) is tick


def row(**changed: Any) -> dict[str, Any]:
    return {
        "id": "ABC",
        "text": "hi",
        "holes": 0,
        "content": True,
        "written": True,
        "bubble": True,
        "notice": False,
        "outgoing": False,
        "incoming": False,
        "side": "left",
        "failed": None,
        "status": [],
        "icons": [],
    } | changed


def icon(name: str, label: str = "") -> dict[str, str]:
    return {"label": label, "icon": name, "color": GREY}


@pytest.mark.parametrize(
    ("changed", "side"),
    [
        ({"id": "true_1@c.us_3EB0"}, Side.OURS),
        ({"id": "false_1@c.us_3EB0", "side": "right"}, Side.THEIRS),
        ({"outgoing": True}, Side.OURS),
        ({"incoming": True, "side": "right"}, Side.THEIRS),
        ({"status": [icon("wds-ic-delivered")]}, Side.OURS),
        ({"side": "right"}, Side.OURS),
        ({}, Side.THEIRS),
        ({"content": False, "side": "right"}, Side.HIDDEN),
        ({"notice": True}, Side.NOTICE),
        ({"side": "middle", "bubble": False}, Side.UNKNOWN),
        ({"failed": "Something went wrong."}, Side.THEIRS),  # media of theirs that could not be loaded
    ],
)
def test_whose_a_row_is(changed: dict[str, Any], side: Side) -> None:
    assert [bubble.side for bubble in read_bubbles([row(**changed)], SHIPPED)] == [side]


@pytest.mark.parametrize(
    ("changed", "tick"),
    [
        ({"status": [STAR, icon("wds-ic-read")]}, Tick.DELIVERED),
        ({"status": [STAR]}, Tick.UNKNOWN),
        ({"status": [icon("wds-ic-delivered"), icon("wds-ic-surprise")]}, Tick.UNKNOWN),  # the last one counts
        ({"icons": [icon("tail-out"), icon("wds-ic-delivered"), icon("ic-reaction")]}, Tick.SENT),  # no meta is found
        ({"failed": "Couldn't send this message."}, Tick.FAILED),
        ({"icons": [icon("ic-error")]}, Tick.FAILED),
        ({"failed": "a reaction", "status": [icon("wds-ic-read")]}, Tick.DELIVERED),  # it was sent all the same
    ],
)
def test_the_status_of_a_message_of_ours(changed: dict[str, Any], tick: Tick) -> None:
    assert [bubble.tick for bubble in read_bubbles([row(outgoing=True, **changed)], SHIPPED)] == [tick]


def ours(text: str, tick: Tick, name: str = "id") -> Bubble:
    return Bubble(name, text, tick, Side.OURS)


def other(side: Side, text: str = "hello") -> Bubble:
    return Bubble("in", text, Tick.UNKNOWN, side)


@pytest.mark.parametrize(
    ("rows", "whole", "verdict", "reason"),
    [
        ([], True, Verdict.NOT_SENT, None),
        ([], False, Verdict.UNKNOWN, Reason.ANCHOR_LOST),
        ([ours("other", Tick.READ)], True, Verdict.UNKNOWN, Reason.OTHER_OUTGOING),
        ([ours("other", Tick.READ, "another job's")], True, Verdict.NOT_SENT, None),
        ([ours("other", Tick.PENDING, "another job's")], True, Verdict.UNKNOWN, Reason.AT_THE_CLOCK),
        ([ours("hi", Tick.READ, "another job's")], True, Verdict.NOT_SENT, None),
        ([ours("hi", Tick.SENT)], False, Verdict.UNKNOWN, Reason.ANCHOR_LOST),  # it may be of last month
        ([ours("hi", Tick.PENDING), ours("hi", Tick.READ)], True, Verdict.UNKNOWN, Reason.OTHER_OUTGOING),
        ([ours("hi", Tick.SENT), ours("other", Tick.READ, "a person's")], True, Verdict.SENT, None),
        ([ours("hi", Tick.PENDING)], True, Verdict.PENDING, Reason.AT_THE_CLOCK),
        ([ours("other", Tick.PENDING)], True, Verdict.UNKNOWN, Reason.OTHER_OUTGOING),
        ([ours("hi", Tick.UNKNOWN)], True, Verdict.UNREADABLE, Reason.UNREADABLE),
        ([ours("hi", Tick.FAILED)], True, Verdict.FAILED, None),
        ([ours("", Tick.READ)], True, Verdict.UNKNOWN, Reason.OTHER_OUTGOING),
        ([ours("drawn otherwise", Tick.READ, "known")], True, Verdict.SENT, None),
        ([ours("drawn otherwise", Tick.READ, "known")], False, Verdict.SENT, None),
        ([ours("drawn otherwise", Tick.READ, "true_1@c.us_known")], True, Verdict.SENT, None),
        ([Bubble("known", "", Tick.UNKNOWN, Side.HIDDEN)], True, Verdict.UNKNOWN, Reason.ROWS_MISSING),
        ([other(Side.THEIRS, "hi")], True, Verdict.UNKNOWN, Reason.UNREADABLE),
        ([other(Side.THEIRS)], True, Verdict.NOT_SENT, None),
        ([other(Side.NOTICE)], True, Verdict.NOT_SENT, None),
        ([other(Side.HIDDEN)], True, Verdict.UNKNOWN, Reason.ROWS_MISSING),
        ([other(Side.UNKNOWN)], True, Verdict.UNKNOWN, Reason.UNREADABLE),
    ],
)
def test_what_became_of_a_message(rows: list[Bubble], verdict: Verdict, reason: Reason | None, *, whole: bool) -> None:
    known = next((row.id for row in rows if row.id.endswith("known")), None)
    finding = judge("hi", rows, whole=whole, bubble=known, others={"another job's"})
    assert (finding.verdict, finding.reason) == (verdict, reason)


@pytest.mark.parametrize("rows", [[], [other(Side.THEIRS)], [ours("other", Tick.READ, "another job's")]])
def test_that_a_message_which_was_seen_is_gone_proves_nothing(rows: list[Bubble]) -> None:
    finding = judge("hi", rows, whole=True, bubble="known", others={"another job's"})
    assert (finding.verdict, finding.reason) == (Verdict.UNKNOWN, Reason.ROWS_MISSING)


@pytest.mark.parametrize(
    ("text", "shown", "verdict"),
    [
        ("1. Yes", "2. Yes", Verdict.UNKNOWN),
        ("1. Yes", "1. Yes", Verdict.SENT),
        ("10. 5. 2026", "2026", Verdict.UNKNOWN),
        ("***", "***", Verdict.UNKNOWN),
        ("***", "👍", Verdict.UNKNOWN),
        ("👍", "👍", Verdict.SENT),
        ("👍", "🎉", Verdict.UNKNOWN),
        ("Table 12 *at* 5", "Table 12 at 5", Verdict.SENT),
    ],
)
def test_numbers_count_where_the_text_alone_tells(text: str, shown: str, verdict: Verdict) -> None:
    assert judge(text, [ours(shown, Tick.SENT)], whole=True).verdict is verdict


def watched(*looks: list[Bubble]) -> Bubble | None:
    watch = Watch("hi", "anchor", frozenset({"anchor", "before"}))
    found = None
    for rows in looks:
        found = watch.look([ours("old", Tick.READ, "before"), ours("older", Tick.READ, "anchor"), *rows])
    return found


def test_a_message_that_was_seen_and_is_gone_keeps_its_id() -> None:
    watch = Watch("hi", None, frozenset())
    watch.look([ours("hi", Tick.PENDING, "a")])
    watch.look([])
    unknown = watch.unknown(60)
    assert (unknown.bubble, unknown.reason) == ("a", Reason.ROWS_MISSING)


@pytest.mark.parametrize(
    ("looks", "name"),
    [
        ([[]], None),
        ([[ours("hi", Tick.SENT, "a")]], "a"),
        ([[ours("drawn otherwise", Tick.PENDING, "a")], [ours("drawn otherwise", Tick.SENT, "a")]], "a"),
        ([[ours("drawn otherwise", Tick.SENT, "a")]], None),
        ([[ours("a person's", Tick.SENT, "b"), ours("hi", Tick.SENT, "a")]], "a"),
        ([[ours("a person's", Tick.SENT, "b"), ours("drawn otherwise", Tick.PENDING, "a")]], "a"),
        ([[ours("hi", Tick.SENT, "b"), ours("hi", Tick.PENDING, "a")]], "a"),  # a person wrote the same
        ([[ours("x", Tick.PENDING, "b"), ours("y", Tick.PENDING, "a")]], None),
    ],
)
def test_which_new_message_is_ours(looks: list[list[Bubble]], name: str | None) -> None:
    found = watched(*looks)
    assert (found and found.id) == name
