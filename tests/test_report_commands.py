"""`postrider reports show` and `chart`: the same reports as over HTTP, for a terminal, a file or a slide."""

import json
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from fixtures_api import api, settings
from fixtures_commands import run, start
from fixtures_reports import fortnight
from fixtures_tenancy import fill as fill_tenants

from commands import reports
from commands.reports import Asked
from errors import OperatorError
from settings import Settings

DOCS = Path(__file__).parent.parent / "docs"
FORTNIGHT = Asked(since="2026-11-09", until="2026-11-23")


@pytest.fixture(scope="module")
def filled(postgres: str) -> Iterator[str]:
    with fortnight(postgres) as url:
        yield url


@pytest.fixture
def given(filled: str) -> Settings:
    return settings(database_url=filled)


def test_without_a_name_it_lists_the_reports(given: Settings, capsys: pytest.CaptureFixture[str]) -> None:
    assert reports.show_views(given, None) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 15
    assert "queue_depth      What waits now, by account." in lines


def test_a_table_is_aligned_and_counts_its_rows(given: Settings, capsys: pytest.CaptureFixture[str]) -> None:
    asked = Asked(since="2026-11-20", until="2026-11-21")
    assert reports.show(given, "balance", "table", asked) == 0
    assert capsys.readouterr().out.splitlines() == [
        "account_id  day         accepted  sent  failed  cancelled  open  difference  zone",
        "----------  ----------  --------  ----  ------  ---------  ----  ----------  -----------------",
        "acc_berlin  2026-11-20        52    50       2          0     0           0  Europe/Berlin",
        "acc_paulo   2026-11-20        24    23       1          0     0           0  America/Sao_Paulo",
        "(2 rows)",
    ]


def test_a_table_shows_no_characters_that_steer_a_terminal(
    database_url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with psycopg.connect(database_url, autocommit=True) as connection:
        fill_tenants(connection)
        connection.execute("update accounts set name = E'\\x1b]0;owned\\x07=1\\n' || repeat('x', 99)")
    assert reports.show(settings(database_url=database_url), "accounts", "table", Asked("org_alfa")) == 0
    said = capsys.readouterr().out
    assert "·]0;owned·=1·" + "x" * 46 + "…" in said
    assert "\x1b" not in said
    assert "\x07" not in said


async def test_other_forms_are_those_of_http(filled: str) -> None:
    for form, options in (("csv", []), ("csv", ["--bom", "--raw"]), ("json", []), ("ndjson", [])):
        code, said = await run(
            "reports", "show", "recipients", "--format", form, "--since", "2026-11-20", "--account", "acc_berlin",
            *options, DATABASE_URL=filled,
        )  # fmt: skip
        assert code == 0, said
        query = {"format": form, "since": "2026-11-20", "account": "acc_berlin"}
        query |= {"bom": "1", "formulas": "raw"} if options else {}
        async with api(filled) as client:
            assert said == (await client.get("/reports/recipients", params=query)).content.decode()


@pytest.mark.parametrize(
    ("view", "asked", "says"),
    [
        ("nothing", Asked(), "There is no report nothing: see `postrider reports show`."),
        ("caps", Asked(since="2026-11-01"), "since must be left out: caps shows the present"),
        ("jobs", Asked(until="tomorrow"), 'until must be a day, such as 2026-12-01, or .* not "tomorrow"'),
        ("jobs", Asked(org="org_nobody"), "There is no org org_nobody"),
    ],
)
def test_what_is_wrong_is_one_line(given: Settings, view: str, asked: Asked, says: str) -> None:
    with pytest.raises(OperatorError, match=says):
        reports.show(given, view, "csv", asked)


async def test_a_reader_that_goes_away_ends_it_without_a_traceback(filled: str) -> None:
    """As in `… | head -1`."""
    process = await start("reports", "show", "job_timeline", "--format", "csv", DATABASE_URL=filled)
    assert process.stdout
    await process.stdout.readline()
    process.stdout._transport.close()  # type: ignore[attr-defined]  # asyncio has no public way
    assert await process.wait() in {0, 1}


def test_an_org_has_to_be_named_when_there_are_several(database_url: str, capsys: pytest.CaptureFixture[str]) -> None:
    given = settings(database_url=database_url)
    with psycopg.connect(database_url, autocommit=True) as connection:
        fill_tenants(connection)
    with pytest.raises(OperatorError, match="There are several orgs"):
        reports.show(given, "jobs", "json", Asked())
    for org in ("org_alfa", "org_bravo"):
        assert reports.show(given, "jobs", "json", Asked(org)) == 0
        assert {row["org_id"] for row in json.loads(capsys.readouterr().out)["items"]} == {org}


def test_the_pictures_of_the_docs_are_those_of_this_fortnight(given: Settings, tmp_path: Path) -> None:
    assert reports.draw(given, FORTNIGHT, tmp_path / "new" / "folder") == 0
    for name in ("volume", "rates", "latency"):
        drawn = (tmp_path / "new" / "folder" / f"{name}.svg").read_text("utf-8")
        assert drawn == (DOCS / "charts" / f"{name}.svg").read_text("utf-8"), (
            f"draw docs/charts/{name}.svg anew: {tmp_path}"
        )


def test_a_chart_is_of_the_last_days_unless_a_period_is_asked_for(
    database_url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute(
            "insert into lanes (id, org_id, kind, queue) values ('acc_old', 'org_default', 'account', 'account');"
            "insert into accounts (id, org_id, name, transport, created_at)"
            " values ('acc_old', 'org_default', 'Old', 'sandbox', now() - interval '500 days')"
        )
    given = settings(database_url=database_url)
    assert reports.draw(given, Asked(), tmp_path) == 0
    assert capsys.readouterr().out.splitlines() == [
        str(tmp_path / f"{name}.svg") for name in ("volume", "rates", "latency")
    ]
    with pytest.raises(OperatorError, match="A chart has room for 400 days, and the period has 50"):
        reports.draw(given, Asked(since="2020-01-01"), tmp_path)


@pytest.mark.parametrize(
    ("asked", "first"), [(Asked(until="2026-12-01"), "9 Nov"), (Asked(until="2026-12-15T10:00:00Z"), "15 Nov")]
)
def test_a_chart_ends_thirty_days_after_it_begins(given: Settings, tmp_path: Path, asked: Asked, first: str) -> None:
    """The data begin on 9 November."""
    assert reports.draw(given, asked, tmp_path) == 0
    assert f">{first} to " in (tmp_path / "volume.svg").read_text("utf-8")


def test_a_folder_that_cannot_be_written_is_named(given: Settings, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OperatorError, match=r"--out .*/file/pictures: Not a directory\."):
        reports.draw(given, FORTNIGHT, tmp_path / "file" / "pictures")
