import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import psutil
import psycopg
import pytest
from fixtures_postgres import open_folder

from browser.engine.process import is_running
from errors import DatabaseAway
from sql import embedded

ROOT = Path(__file__).parent.parent
#: starts the server or joins it, says so, and ends when its standard input does
USER = "import pathlib, sql.embedded, sys; print(sql.embedded.start(pathlib.Path(sys.argv[1])), flush=True)"
SECONDS = 30  # for a process to end

User = subprocess.Popen[str]


@pytest.fixture
def folder() -> Iterator[Path]:
    with open_folder() as path:
        yield path
        if (path / embedded.FOLDER / "postmaster.pid").exists():
            subprocess.run([sys.executable, "-c", USER, str(path)], cwd=ROOT, check=True, timeout=SECONDS)


@pytest.fixture
def use(folder: Path) -> Iterator[Callable[[], tuple[User, str]]]:
    """Start a process that uses the server, and return it with the server's URL."""
    with ExitStack() as stack:

        def start() -> tuple[User, str]:
            code = f"{USER}; sys.stdin.read()"
            user = subprocess.Popen(
                [sys.executable, "-c", code, str(folder)], cwd=ROOT, text=True,
                stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            )  # fmt: skip
            stack.enter_context(user)
            stack.callback(user.kill)
            assert user.stdout
            return user, user.stdout.readline().strip()

        yield start


def server_of(folder: Path) -> psutil.Process:
    return psutil.Process(int((folder / embedded.FOLDER / "postmaster.pid").read_text().splitlines()[0]))


def end(user: User) -> None:
    assert user.stdin
    user.stdin.close()
    assert user.wait(SECONDS) == 0


def test_a_folder_whose_path_has_a_space_is_refused_by_its_name(tmp_path: Path) -> None:
    folder = tmp_path / "My projects"
    with pytest.raises(DatabaseAway, match=r"My projects, whose path has a space.*DATA_DIR"):
        embedded.start(folder)
    assert not folder.exists(), "nothing is left behind"


def test_the_last_who_uses_the_server_stops_it_whoever_was_killed_before(
    folder: Path, use: Callable[[], tuple[User, str]]
) -> None:
    first, url = use()
    server = server_of(folder)
    second, _ = use()
    third, _ = use()
    first.kill()
    first.wait(SECONDS)
    end(second)
    with psycopg.connect(url) as connection:
        connection.execute("select 1")
    end(third)
    assert not is_running(server)


def test_a_server_that_was_left_behind_is_joined_and_stopped_by_the_next(
    folder: Path, use: Callable[[], tuple[User, str]]
) -> None:
    killed, url = use()
    server = server_of(folder)
    killed.kill()
    killed.wait(SECONDS)
    heir, same = use()
    assert (same, server_of(folder)) == (url, server)
    end(heir)
    assert not is_running(server)


def test_whoever_comes_while_the_last_stops_the_server_gets_one_that_runs(
    use: Callable[[], tuple[User, str]],
) -> None:
    last, _ = use()
    for _ in range(3):
        assert last.stdin
        last.stdin.close()
        last, url = use()
        with psycopg.connect(url) as connection:
            connection.execute("select 1")
    end(last)


def run_postgres(url: str) -> str:
    with psycopg.connect(url) as connection:
        row = connection.execute("show server_version").fetchone()
        assert row
        return str(row[0])


#: As the wheel and versions before 0.5 left it when initdb was killed.
HALF_MADE = {"PG_VERSION": "18\n", "base/1/PG_VERSION": "18\n"}


def test_what_a_killed_initdb_left_is_made_anew(folder: Path) -> None:
    for name, text in HALF_MADE.items():
        path = folder / embedded.FOLDER / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    assert run_postgres(embedded.start(folder)).startswith("18")
    embedded.stop_server(folder)


def test_a_cluster_that_has_run_is_kept_also_without_the_mark(folder: Path) -> None:
    with psycopg.connect(embedded.start(folder), autocommit=True) as connection:
        connection.execute("create table kept ()")
    embedded.stop_server(folder)
    (folder / embedded.FOLDER / embedded.MADE).unlink()
    with psycopg.connect(embedded.start(folder)) as connection:
        connection.execute("select from kept")
    embedded.stop_server(folder)


@pytest.mark.parametrize(
    "seconds", [*(pytest.param(seconds, marks=pytest.mark.long) for seconds in (0.3, 0.6, 1.5, 2.0, 3.0)), 1.0]
)
def test_a_start_that_is_killed_at_any_moment_is_no_hindrance(seconds: float, folder: Path) -> None:
    process = subprocess.Popen([sys.executable, "-c", USER, str(folder)], cwd=ROOT, stdout=subprocess.PIPE)
    with suppress(subprocess.TimeoutExpired):
        process.wait(seconds)
    process.kill()
    process.communicate()
    assert run_postgres(embedded.start(folder)).startswith("18")
    embedded.stop_server(folder)
    # Its initdb goes on without it for a moment.
    end = time.monotonic() + SECONDS
    while any(str(folder) in " ".join(process.info["cmdline"] or ()) for process in psutil.process_iter(["cmdline"])):
        assert time.monotonic() < end
        time.sleep(0.05)
    embedded.start(folder)
    embedded.stop_server(folder)
    assert [path.name for path in folder.glob(f"{embedded.MAKING}*")] == []


def test_another_program_with_the_servers_number_is_not_taken_for_it(folder: Path) -> None:
    embedded.start(folder)
    note = folder / embedded.FOLDER / embedded.PID_FILE
    text = note.read_text()
    embedded.stop_server(folder)
    _, rest = text.split("\n", 1)
    note.write_text(f"{os.getpid()}\n{rest}")
    assert run_postgres(embedded.start(folder)).startswith("18")
    embedded.stop_server(folder)


def test_a_server_that_a_killed_process_left_is_stopped(folder: Path, use: Callable[[], tuple[User, str]]) -> None:
    user, url = use()
    user.kill()
    user.wait()
    assert run_postgres(url).startswith("18")
    embedded.stop_server(folder)
    with pytest.raises(psycopg.OperationalError):
        run_postgres(url)
    embedded.stop_server(folder)  # and again, with none
