"""The commands as people run them: programs, with what they print and how they end."""

import asyncio
import json
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
from asyncio.subprocess import PIPE
from pathlib import Path

import psycopg
import pytest
from fixtures_api import ENCRYPTION_KEY, KEY, api, rows
from fixtures_commands import ROOT, run, start
from fixtures_postgres import open_folder
from typer.testing import CliRunner

from bench.ports import held_ports
from cli import cli
from commands import demo, environment, keys, why
from errors import OperatorError, SchemaWrong
from sql.database import Database

pytestmark = pytest.mark.timeout(600)
SIGNED = {"WEBHOOK_SECRET": "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"}


@pytest.mark.parametrize(
    "command",
    [
        [],
        ["demo"],
        ["up"],
        ["api"],
        ["worker"],
        ["migrate"],
        ["doctor"],
        ["why"],
        ["keys"],
        ["keys", "create"],
        ["keys", "revoke"],
        ["keys", "reseal"],
        ["selectors"],
        ["selectors", "use"],
    ],
)
def test_every_command_has_help(command: list[str]) -> None:
    result = CliRunner().invoke(cli, [*command, "--help"])
    assert result.exit_code == 0
    assert f"Usage: {' '.join(['root', *command])}" in result.output


async def test_help_is_had_from_the_program() -> None:
    code, output = await run("keys", "--help")
    assert code == 0
    for name in ("create", "list", "revoke"):
        assert name in output


def test_help_waits_for_nothing_that_only_a_command_needs() -> None:
    rooms = "'playwright', 'procrastinate', 'psycopg', 'bench', 'commands', 'api', 'tasks', 'browser'"
    code = (
        "import sys, cli\ntry: cli.main()\n"
        f"except SystemExit: print(*(name for name in ({rooms}) if name in sys.modules), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code, "--help"], capture_output=True, text=True, cwd=ROOT, check=True)
    assert "Usage:" in done.stdout
    assert done.stderr.split() == []


#: what is set wrong → how the line begins that says so
WRONG = [
    ({"PORT": "none"}, "postrider: PORT=none: "),
    ({"WEBHOOK_URL": "http://x/", "WEBHOOK_SECRET": "hunter2"}, "postrider: WEBHOOK_SECRET: "),
    (
        {"WEBHOOK_URL": "http://u:hunter2@h/", **SIGNED},
        "postrider: WEBHOOK_URL must be an http or https URL without",
    ),
    (
        {"WEBHOOK_URL": "http://10.0.0.1/", **SIGNED},
        "postrider: WEBHOOK_URL=http://10.0.0.1/: must lead to a public",
    ),
    (
        {"WEBHOOK_URL": "http://shop.test:25/", "WEBHOOK_ALLOW_CIDRS": "office", **SIGNED},
        "postrider: WEBHOOK_ALLOW_CIDRS=office: ",
    ),
    ({"ENV": "production"}, "postrider: DATABASE_URL, API_KEY, ENCRYPTION_KEY must be set"),
    ({"SELECTORS_FILE": "/nowhere"}, "postrider: The selectors file /nowhere cannot be read"),
    ({"CHROMIUM_PATH": "/nowhere"}, "postrider: CHROMIUM_PATH=/nowhere is not a program"),
]


# Each starts a program: one finds its fault in the settings, one in their use.
@pytest.mark.parametrize(
    ("environment", "line"),
    [WRONG[0], *(pytest.param(*each, marks=pytest.mark.long) for each in WRONG[1:-1]), WRONG[-1]],
)
async def test_what_is_wrong_ends_the_start_with_one_line(
    environment: dict[str, str], line: str, database_url: str, tmp_path: Path
) -> None:
    base = {"DATABASE_URL": database_url} if "ENV" not in environment else {}
    code, output = await run("worker", **base, DATA_DIR=str(tmp_path), **environment)
    assert code == 1
    assert line in output
    assert "hunter2" not in output
    assert "Traceback" not in output


async def test_an_unmigrated_database_is_refused_and_migrate_mends_it(postgres: str, tmp_path: Path) -> None:
    with psycopg.connect(postgres, autocommit=True) as connection:
        connection.execute("create database unmigrated")
    url = postgres.replace("/postgres?", "/unmigrated?")
    for command in (["api"], ["keys", "list"]):
        code, output = await run(*command, DATABASE_URL=url, DATA_DIR=str(tmp_path))
        assert (code, output.count("\n"), "run `postrider migrate`" in output) == (1, 1, True), output
    with pytest.raises(SchemaWrong, match="run `postrider migrate`"):
        await asyncio.to_thread(why.run_why, environment.load(database_url=url, data_dir=tmp_path), "job_1")
    code, output = await run("migrate", DATABASE_URL=url, DATA_DIR=str(tmp_path))
    assert (code, "\nApplied 0001.procrastinate" in output) == (0, True), output
    code, output = await run("migrate", DATABASE_URL=url, DATA_DIR=str(tmp_path))
    assert (code, output) == (0, "Nothing to do: the schema is up to date.\n")


async def test_keys_are_made_listed_and_revoked(
    database_url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    of = environment.load(database_url=database_url, data_dir=tmp_path)
    code, made = await run("keys", "create", "the shop", "--signed", DATABASE_URL=database_url, DATA_DIR=str(tmp_path))
    (key_id,) = re.findall(r"^id +(key_\S+)$", made, re.MULTILINE)
    (key,) = re.findall(r"^key +(key_\S+)$", made, re.MULTILINE)
    assert (code, bool(re.search(r"^secret +sec_", made, re.MULTILINE))) == (0, True)
    assert await asyncio.to_thread(keys.show, of) == 0
    listed = capsys.readouterr().out
    assert key_id in listed
    assert key not in listed
    assert await asyncio.to_thread(keys.revoke, of, key_id) == 0
    with pytest.raises(OperatorError, match="There is no valid key"):
        await asyncio.to_thread(keys.revoke, of, key_id)
    code, listed = await run("keys", "list", DATABASE_URL=database_url, DATA_DIR=str(tmp_path))
    assert (code, "revoked" in listed) == (0, True)


async def test_the_key_of_the_settings_is_not_revoked_by_hand(
    database: Database, database_url: str, tmp_path: Path
) -> None:
    async with api(database_url):
        pass
    for more, how in (
        ({"api_key": KEY}, "change or remove API_KEY, and restart"),
        ({}, f"delete {tmp_path / 'api_key'}, and restart"),
        ({"env": "production", "api_key": KEY, "encryption_key": ENCRYPTION_KEY}, ": change API_KEY, and restart"),
    ):
        of = environment.load(database_url=database_url, data_dir=tmp_path, **more)
        with pytest.raises(OperatorError, match=re.escape(how)):
            await asyncio.to_thread(keys.revoke, of, "key_bootstrap")
    assert await rows(database, "select revoked_at from api_keys") == [(None,)]


@pytest.mark.long
@pytest.mark.parametrize("revoked", [False, True])
async def test_an_api_key_that_was_made_by_hand_ends_the_start_with_one_line(
    revoked: bool, database_url: str, tmp_path: Path
) -> None:
    environment = {"DATABASE_URL": database_url, "DATA_DIR": str(tmp_path)}
    _, made = await run("keys", "create", "the shop", **environment)
    (key_id,) = re.findall(r"^id +(key_\S+)$", made, re.MULTILINE)
    (key,) = re.findall(r"^key +(key_\S+)$", made, re.MULTILINE)
    if revoked:
        assert (await run("keys", "revoke", key_id, **environment))[0] == 0
    (port,) = held_ports(1)
    code, output = await run("api", **environment, API_KEY=key, PORT=str(port))
    assert (code, "Traceback" in output) == (1, False), output
    (line,) = [line for line in output.splitlines() if line.startswith("postrider: ")]
    assert line.startswith(f"postrider: API_KEY is the key {key_id} (the shop) of `postrider keys create`, which ")
    assert ("revoked" in line) == revoked
    assert key not in output


@pytest.mark.long
async def test_doctor_finds_everything_well_and_says_what_is_not(database_url: str, tmp_path: Path) -> None:
    code, output = await run("doctor", DATABASE_URL=database_url, DATA_DIR=str(tmp_path))
    assert code == 0, output
    assert [line.split()[:2] for line in output.splitlines()] == [
        ["ok", name]
        for name in ("settings", "database", "schema", "roles", "workers", "clock", "keys", "chromium", "disk")
    ]
    code, output = await run("doctor", DATABASE_URL="postgresql://127.0.0.1:1/x", DATA_DIR=str(tmp_path))
    assert code == 1
    assert "WRONG database" in output
    assert "ok    chromium" in output, "the other checks go on"


async def test_up_says_so_when_its_port_is_taken(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        code, output = await run("up", DATA_DIR=str(tmp_path), PORT=str(port))
    assert (code, output.startswith(f"postrider: PORT={port} on 127.0.0.1 cannot be used")) == (1, True)


@pytest.mark.long
async def test_demo_does_the_main_job_and_tells_it() -> None:
    with open_folder() as folder:
        code, output = await run("demo", DATA_DIR=str(folder))
        assert code == 0, output
        steps = [
            "█",
            "Linked as +1555",
            "answered 202",
            "JobCompleted",
            "shows its timeline",
            "delivered",
            "read",
            "seconds_to_send",
            "make up",
        ]
        positions = [output.index(step) for step in steps]
        assert positions == sorted(positions)
        assert (folder / "demo.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.long
async def test_two_demos_at_once_have_nothing_to_do_with_each_other() -> None:
    with open_folder() as folder:
        first, second = await asyncio.gather(*(run("demo", DATA_DIR=str(folder)) for _ in range(2)))
        assert (first[0], second[0]) == (0, 0), first[1] + second[1]


def test_a_demo_removes_what_ended_ones_left_and_no_other(tmp_path: Path) -> None:
    with demo.home(tmp_path) as first, demo.home(tmp_path) as second:
        assert first != second
        assert sorted(tmp_path.glob("demo-*")) == sorted([first, second])
    with demo.home(tmp_path) as third:
        assert list(tmp_path.glob("demo-*")) == [third]


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed here")
async def test_up_prints_a_curl_line_that_works_and_stops_cleanly() -> None:
    port, worker_port = held_ports(2)
    with open_folder() as folder:
        process = await start("up", DATA_DIR=str(folder), PORT=str(port), WORKER_PORT=str(worker_port))
        assert process.stdout
        printed = ""
        async with asyncio.timeout(60):
            while "Ctrl-C stops it" not in printed:
                printed += (await process.stdout.readline()).decode()
        (line,) = re.findall(r"^  (curl -s \S+/send .*)$", printed, re.MULTILINE)
        curl = await asyncio.create_subprocess_exec(*shlex.split(line), stdout=PIPE)
        answer = json.loads((await curl.communicate())[0])
        assert answer["status"] == "queued"
        (look,) = re.findall(r"^  (curl -s \S+/jobs/JOB_ID .*)$", printed, re.MULTILINE)
        shown: dict[str, str] = {}
        async with asyncio.timeout(60):
            while shown.get("status") != "read":
                asked = await asyncio.create_subprocess_exec(
                    *shlex.split(look.replace("JOB_ID", answer["jobId"])), stdout=PIPE
                )
                shown = json.loads((await asked.communicate())[0])
        process.send_signal(signal.SIGINT)
        rest, _ = await process.communicate()
        assert process.returncode == 0, rest.decode()
        assert "Hello from Postrider" not in printed.replace(line, "") + rest.decode(), "no message text in the logs"
