"""`postrider reports`: print reports, and make logins of Postgres that read those of an org."""

import asyncio
import csv
import io
import json
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import SpooledTemporaryFile
from typing import IO, Any

from psycopg.conninfo import conninfo_to_dict

from api.http.json_body import check
from api.reports import charts
from api.reports.reports import ReportQuery
from commands import environment
from commands.orgs import chosen
from errors import Invalid, NotFound, OperatorError
from settings import Settings
from sql import report_logins
from sql.database import Database
from sql.exports import Export
from sql.report_views import Form, View, views
from sql.roles import Role

WIDEST = 60  # characters of a cell that a table shows
TABLE = "table"
IN_MEMORY = 1 << 20  # bytes of a report that needs no file
CHART_DAYS = 30  # unless a period is asked for


@dataclass(frozen=True)
class Asked:
    """What `show` was asked for, in the words of `GET /reports/{view}`."""

    org: str | None = None
    since: str | None = None
    until: str | None = None
    account: str | None = None
    bom: bool = False
    formulas: str = "guarded"

    def query(self, form: Form) -> ReportQuery:
        """Return it checked, as HTTP does. Raises OperatorError."""
        given = {"since": self.since, "until": self.until, "account": self.account, "formulas": self.formulas}
        try:
            return check(ReportQuery, {**given, "bom": self.bom, "format": form.value})
        except Invalid as error:
            raise OperatorError(error.detail) from None


class Reports:
    """The reports of one org, as its keys read them."""

    def __init__(self, settings: Settings, org: str | None) -> None:
        """Raises OperatorError for an org that is not there, or when there are several and none is named."""
        self._url = environment.ready_database_url(settings, Role.API)
        self._org, self.views = asyncio.run(self._looked_up(org))

    async def _looked_up(self, org: str | None) -> tuple[str, list[View]]:
        async with Database(self._url, Role.WORKER, size=1) as database:
            org = await chosen(database, org)
        async with Database(self._url, Role.API, size=1) as database:
            return org, views(await database.of(org).all("report_views"))

    def rows(self, name: str, asked: Asked) -> list[dict[str, Any]]:
        """Return the rows of a report. Raises OperatorError, DatabaseError."""
        with SpooledTemporaryFile(IN_MEMORY) as file:
            self.write(name, asked.query(Form.JSON), file)
            file.seek(0)
            found: list[dict[str, Any]] = json.load(file)["items"]
            return found

    def write(self, name: str, query: ReportQuery, file: IO[bytes]) -> int:
        """Write the rows of a report, of any size; return how many. Raises OperatorError, DatabaseError."""
        view = next((view for view in self.views if view.name == name), None)
        if view is None:
            raise OperatorError(f"There is no report {name}: see `postrider reports show`.")
        form = Form(query.format)
        try:
            statement = view.statement(query.rows, form, guarded=query.formulas == "guarded")
            export = Export(Database(self._url, Role.API).of(self._org), statement, form, bom=query.bom)
            return export.write(file, most=sys.maxsize)
        except (Invalid, NotFound) as error:
            raise OperatorError(error.detail) from None


def show_views(settings: Settings, org: str | None) -> int:
    """Print a line for every report."""
    for view in Reports(settings, org).views:
        print(f"{view.name:16} {view.description}")  # noqa: T201
    return 0


def show(settings: Settings, view: str, form: str, asked: Asked) -> int:
    """Print a report, as a table or in one of the forms that HTTP has. Raises OperatorError."""
    query = asked.query(Form.CSV if form == TABLE else Form(form))
    if form == TABLE:
        # For people, and no program reads it as a formula.
        query = query.model_copy(update={"formulas": "raw", "bom": False})
    with SpooledTemporaryFile(IN_MEMORY) as file:
        Reports(settings, asked.org).write(view, query, file)
        file.seek(0)
        if form == TABLE:
            lines = csv.reader(io.TextIOWrapper(file, "utf-8", newline=""), strict=True)
            _print_table([line[1:] for line in lines])  # without org_id, which is the same in each
        else:
            shutil.copyfileobj(file, sys.stdout.buffer)
            sys.stdout.flush()
    return 0


def draw(settings: Settings, asked: Asked, folder: Path) -> int:
    """Draw volume, rates and latency into files. Raises OperatorError."""
    if asked.since is None:
        end = asked.query(Form.JSON).until or datetime.now(UTC) + timedelta(days=1)
        asked = replace(asked, since=f"{end - timedelta(days=CHART_DAYS):%Y-%m-%d}")
    reports = Reports(settings, asked.org)
    names = {
        row["account_id"]: row["name"] for row in reports.rows("accounts", Asked(asked.org, account=asked.account))
    }
    drawn = {
        "volume.svg": charts.volume(reports.rows("daily_volume", asked)),
        "rates.svg": charts.rates(reports.rows("delivery_rate", asked)),
        "latency.svg": charts.latency(reports.rows("latency", asked), names),
    }
    if (days := max(len(chart.days) for chart in drawn.values())) > charts.MOST_DAYS:
        raise OperatorError(f"A chart has room for {charts.MOST_DAYS} days, and the period has {days}: give --since.")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, chart in drawn.items():
            (folder / name).write_text(chart.svg(), "utf-8")
            print(folder / name)  # noqa: T201
    except OSError as error:
        raise OperatorError(f"--out {folder}: {error.strerror}.") from None
    return 0


def _print_table(lines: Sequence[Sequence[str]]) -> None:
    header, *rows = [[_cell(value) for value in line] for line in lines]
    columns = list(zip(header, *rows, strict=True))
    widths = [max(map(len, column)) for column in columns]
    numeric = [all(value.replace(".", "", 1).isdecimal() or not value for value in column[1:]) for column in columns]
    for number, line in enumerate([header, *rows]):
        cells = zip(line, widths, numeric, strict=True)
        print("  ".join(cell.rjust(width) if right else cell.ljust(width) for cell, width, right in cells).rstrip())  # noqa: T201
        if number == 0:
            print("  ".join("-" * width for width in widths))  # noqa: T201
    print(f"({len(rows):,} row{'' if len(rows) == 1 else 's'})")  # noqa: T201


def _cell(value: str) -> str:
    # Also what would steer a terminal.
    text = "".join(each if each.isprintable() else "·" for each in value)
    return text if len(text) <= WIDEST else text[: WIDEST - 1] + "…"


def create_login(settings: Settings, name: str, org: str | None, seconds: int) -> int:
    """Make a login for the reports of an org, and print it with its password, once. Raises OperatorError."""
    url = environment.migrated_database_url(settings)
    password = report_logins.create(url, name, org or _only_org(url), seconds)
    place = conninfo_to_dict(environment.database_url(settings))
    where = " ".join(f"{key}={place[key]}" for key in ("host", "port", "dbname") if place.get(key))
    print(f"login     {name}\npassword  {password}\nconnect   psql '{where} user={name}'")  # noqa: T201
    print("Store the password now: it is not shown again.")  # noqa: T201
    return 0


def show_logins(settings: Settings) -> int:
    """Print a line for every login for reports."""
    for row in report_logins.listed(environment.migrated_database_url(settings)):
        gone = "" if row["can_log_in"] else "  cannot log in"
        print(f"{row['login']:31} {row['org_id']:31} {row['created_at']:%Y-%m-%d %H:%M}{gone}")  # noqa: T201
    return 0


def revoke_login(settings: Settings, name: str) -> int:
    """Let a login read no reports any more. Raises OperatorError."""
    dropped = report_logins.revoke(environment.migrated_database_url(settings), name)
    print(f"{name} is dropped." if dropped else f"{name} reads no reports any more; the role itself stays.")  # noqa: T201
    return 0


def _only_org(url: str) -> str:
    orgs = report_logins.orgs(url)
    if len(orgs) > 1:
        raise OperatorError("There are several orgs: name one with --org, see `postrider orgs list`.")
    return orgs[0]
