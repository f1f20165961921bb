"""The views of the schema report: what they tell, and the statements that read them."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date, datetime
from enum import StrEnum
from itertools import groupby
from operator import itemgetter
from typing import LiteralString

from psycopg.sql import SQL, Composable, Composed, Identifier, Literal

from errors import FieldError, Invalid
from sql.database import Row


class Form(StrEnum):
    """What an export is written as."""

    JSON = "json"
    CSV = "csv"
    NDJSON = "ndjson"


#: The column by which rows are in a period, of views whose rows are not days.
TIMES = {"hours": "hour", "jobs": "created_at", "recipients": "accepted_at", "job_timeline": "at"}
DAY = "day"
#: Columns that together are different in each row, as far as a view has them; rows are in their order.
KEYS = ("account_id", "endpoint_id", "job_id", "number", "error_code", "zone")

#: A cell that a spreadsheet takes for a formula (CWE-1236; OWASP, "CSV Injection"), in full-width forms too.
FORMULA: LiteralString = r"^[-=+@\t\r\n\uFF1D\uFF0B\uFF0D\uFF20]"

#: How a type of Postgres is written: times in UTC as answers of the API have them, and clock times without a zone.
SHOWN: dict[str, LiteralString] = {
    "timestamp with time zone": """
        case when isfinite({0}) then to_char({0} at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"') else {0}::text end
    """,
    "timestamp without time zone": """to_char({}, 'YYYY-MM-DD"T"HH24:MI:SS')""",
}
#: The same in CSV alone.
SHOWN_IN_CSV: dict[str, LiteralString] = {"boolean": "{}::text", "json": "{}::text"}
#: Types whose values are what somebody wrote, perhaps to do harm.
WRITTEN = {"text", "json"}


@dataclass(frozen=True)
class Column:
    """A column, with its type in Postgres."""

    name: str
    type: str
    description: str


@dataclass(frozen=True)
class Wanted:
    """Which rows of a view: from `since` on and before `until`, of one account. None is any.

    A moment is compared with the moment of a row, or that at which its day begins; a date with the row's local day.
    """

    since: date | datetime | None = None
    until: date | datetime | None = None
    account: str | None = None


@dataclass(frozen=True)
class View:
    """A view, without its schema."""

    name: str
    description: str
    columns: tuple[Column, ...]

    @property
    def time(self) -> str | None:
        """The column by which a row is in a period; None of a view that shows the present."""
        return TIMES.get(self.name, DAY if self.has(DAY) else None)

    def has(self, column: str) -> bool:
        """Tell whether there is such a column."""
        return any(each.name == column for each in self.columns)

    def statement(self, wanted: Wanted, form: Form, *, guarded: bool = True) -> Composed:
        """Return the COPY that writes its rows, each with all columns. Raises Invalid for what it cannot filter by.

        `guarded`: in CSV, a text that a spreadsheet would take for a formula begins with an apostrophe.
        """
        cells = [
            SQL("{} as {}").format(_cell(column, form, guarded=guarded), Identifier(column.name))
            for column in self.columns
        ]
        order = [name for name in (self.time, *KEYS) if name and self.has(name)]
        rows = SQL("select {} from report.{} as v{} where {} order by {}").format(
            SQL(", ").join(cells), Identifier(self.name), self._zones(wanted), self._conditions(wanted),
            SQL(", ").join(SQL("v.{}").format(Identifier(name)) for name in order),
        )  # fmt: skip
        if form is Form.CSV:
            return SQL("copy ({}) to stdout (format csv, header, encoding 'UTF8')").format(rows)
        # JSON has no such characters and so no line is quoted. Line breaks may stand between fields of stored JSON.
        return SQL(
            "copy (select translate(row_to_json(r)::text, e'\\n\\r', '  ') from ({}) as r)"
            " to stdout (format csv, quote e'\\x01', delimiter e'\\x02', encoding 'UTF8')"
        ).format(rows)

    def _zones(self, wanted: Wanted) -> Composable:
        """Return the join that gives each row a zone, where a date has to be compared with its moment."""
        if self.has("zone") or not any(_is_day(bound) for bound in (wanted.since, wanted.until)):
            return SQL("")
        return SQL(" join report.accounts as a on a.account_id = v.account_id")

    def _conditions(self, wanted: Wanted) -> Composable:
        conditions: list[Composable] = []
        bounds: tuple[tuple[str, LiteralString, date | None], ...] = (
            ("since", ">=", wanted.since),
            ("until", "<", wanted.until),
        )
        for field, compared, bound in bounds:
            if bound is not None:
                conditions.append(self._bounded(field, compared, bound))
        if wanted.account is not None:
            if not self.has("account_id"):
                raise _unfit("account", f"the rows of {self.name} are of no account")
            conditions.append(SQL("v.account_id = {}").format(Literal(wanted.account)))
        return SQL(" and ").join(conditions) if conditions else SQL("true")

    def _bounded(self, field: str, compared: LiteralString, bound: date | datetime) -> Composable:
        if self.time is None:
            raise _unfit(field, f"{self.name} shows the present, and has no rows of other times")
        time = Identifier(self.time)
        zone = SQL("v.zone" if self.has("zone") else "a.zone")
        if self.time == DAY:
            if _is_day(bound):
                return SQL("v.{} {} {}").format(time, SQL(compared), Literal(bound))
            return SQL("v.{}::timestamp at time zone {} {} {}").format(time, zone, SQL(compared), Literal(bound))
        if not _is_day(bound):
            return SQL("v.{} {} {}").format(time, SQL(compared), Literal(bound))
        # The day begins up to 14 h before, and 12 h after, it does in UTC: by this, an index finds the rows.
        around = SQL("v.{} {} {}::timestamp at time zone 'UTC' {}").format(
            time, SQL(compared), Literal(bound),
            SQL("- interval '14 hours'" if compared == ">=" else "+ interval '12 hours'"),
        )  # fmt: skip
        # By the date that clocks showed: where they are put back at midnight, midnight comes twice.
        exact = SQL("(v.{} at time zone {})::date {} {}").format(time, zone, SQL(compared), Literal(bound))
        return SQL("{} and {}").format(around, exact)


def views(rows: Iterable[Row]) -> list[View]:
    """Return the views of the rows of the query `report_views`."""
    return [
        View(name, description, tuple(Column(row["name"], row["type"], row["about"]) for row in columns))
        for (name, description), columns in groupby(rows, itemgetter("view", "description"))
    ]


def _is_day(bound: date | datetime | None) -> bool:
    return bound is not None and not isinstance(bound, datetime)


def _unfit(field: str, fault: str) -> Invalid:
    return Invalid(f"{field} must be left out: {fault}.", errors=[FieldError(field, f"must be left out: {fault}")])


def _cell(column: Column, form: Form, *, guarded: bool) -> Composable:
    name = SQL("v.{}").format(Identifier(column.name))
    shown = SHOWN | (SHOWN_IN_CSV if form is Form.CSV else {})
    cell = SQL(shown.get(column.type, "{}")).format(name)
    if form is Form.CSV and guarded and column.type in WRITTEN:
        return SQL("case when {0} ~ {1} then '''' || {0} else {0} end").format(cell, Literal(FORMULA))
    return cell
