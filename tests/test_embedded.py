import os
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import psycopg
import pytest
from fixtures_postgres import open_folder

from errors import DatabaseAway
from sql import embedded

ROOT = Path(__file__).parent.parent


def test_a_folder_whose_path_has_a_space_is_refused_by_its_name(tmp_path: Path) -> None:
    folder = tmp_path / "My projects"
    with pytest.raises(DatabaseAway, match=r"My projects, whose path has a space.*DATA_DIR"):
        embedded.start(folder)
    assert not folder.exists(), "nothing is left behind"


def run_postgres(url: str) -> str:
    with psycopg.connect(url) as connection:
        row = connection.execute("show server_version").fetchone()
        assert row
        return str(row[0])


def in_a_process(code: str, folder: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", code, str(folder)], cwd=ROOT, stdout=subprocess.PIPE, text=True, start_new_session=True
    )


BEGIN = "import sys; from pathlib import Path; from sql import embedded; print(embedded.start(Path(sys.argv[1])))"
#: As the wheel and versions before 0.5 left it when initdb was killed.
HALF_MADE = {"PG_VERSION": "18\n", "base/1/PG_VERSION": "18\n"}


def test_what_a_killed_initdb_left_is_made_anew() -> None:
    with open_folder() as folder:
        for name, text in HALF_MADE.items():
            path = folder / embedded.FOLDER / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        assert run_postgres(embedded.start(folder)).startswith("18")
        embedded.stop_server(folder)


def test_a_cluster_that_has_run_is_kept_also_without_the_mark() -> None:
    with open_folder() as folder:
        with psycopg.connect(embedded.start(folder), autocommit=True) as connection:
            connection.execute("create table kept ()")
        embedded.stop_server(folder)
        (folder / embedded.FOLDER / embedded.MADE).unlink()
        with psycopg.connect(embedded.start(folder)) as connection:
            connection.execute("select from kept")
        embedded.stop_server(folder)


@pytest.mark.parametrize("seconds", [0.3, 0.6, 1.0, 1.5, 2.0, 3.0])
def test_a_start_that_is_killed_at_any_moment_is_no_hindrance(seconds: float) -> None:
    with open_folder() as folder:
        process = in_a_process(BEGIN, folder)
        with suppress(subprocess.TimeoutExpired):
            process.wait(seconds)
        process.kill()
        process.communicate()
        assert run_postgres(embedded.start(folder)).startswith("18")
        embedded.stop_server(folder)
        assert [path.name for path in folder.glob(f"{embedded.MAKING}*")] == []


def test_another_program_with_the_servers_number_is_not_taken_for_it() -> None:
    with open_folder() as folder:
        embedded.start(folder)
        note = folder / embedded.FOLDER / embedded.NOTE
        text = note.read_text()
        embedded.stop_server(folder)
        _, rest = text.split("\n", 1)
        note.write_text(f"{os.getpid()}\n{rest}")
        assert run_postgres(embedded.start(folder)).startswith("18")
        embedded.stop_server(folder)


def test_a_server_that_a_killed_process_left_is_stopped() -> None:
    with open_folder() as folder:
        process = in_a_process(f"{BEGIN}; sys.stdout.flush(); import time; time.sleep(60)", folder)
        assert process.stdout
        url = process.stdout.readline().strip()
        process.kill()
        process.communicate()
        assert run_postgres(url).startswith("18")
        embedded.stop_server(folder)
        with pytest.raises(psycopg.OperationalError):
            run_postgres(url)
        embedded.stop_server(folder)  # and again, with none
