"""Reports: the views of the schema report, as JSON, CSV or NDJSON."""

import re
from datetime import UTC, date, datetime
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, WithJsonSchema
from starlette.requests import Request
from starlette.responses import Response

from api.http.auth import Caller, permit
from api.http.context import of
from api.http.models import Model, Shown, shown
from api.http.operations import Operation
from api.http.query_params import parameters
from api.http.validators import moment
from errors import DiskFull, NotFound, ReportTooLarge
from sql.exports import Export
from sql.report_views import DAY, Form, View, Wanted, views

MEDIA_TYPES = {
    Form.JSON: "application/json",
    Form.CSV: "text/csv; charset=utf-8; header=present",
    Form.NDJSON: "application/x-ndjson",
}


class ReportColumn(Shown):
    """A column of a report."""

    name: str = Field(description="Its name, in SQL, JSON and CSV.")
    type: str = Field(description="Its type in Postgres.")
    description: str = Field(description="What it tells.")


class ReportView(Shown):
    """A report that can be read."""

    name: str = Field(description="Its name in the path, and in SQL after `report.`.")
    description: str = Field(description="What it tells, and of what each row is.")
    period: Literal["day", "moment"] | None = Field(
        description="What `since` and `until` are compared with: local days, or moments; null if it shows the present."
    )
    columns: list[ReportColumn] = Field(description="Its columns, in their order.")

    @classmethod
    def of(cls, view: View) -> Self:
        """Make it of a view of the database."""
        return cls(
            name=view.name,
            description=view.description,
            period=None if view.time is None else "day" if view.time == DAY else "moment",
            columns=[ReportColumn.model_validate(vars(column)) for column in view.columns],
        )


class ReportViewList(Shown):
    """Every report."""

    items: list[ReportView] = Field(description="The reports.")


class ReportRows(Shown):
    """The rows of a report, in the order of their time."""

    items: list[dict[str, Any]] = Field(description="A row each, with the columns that `GET /reports` lists.")


DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")


def _bound(value: object) -> date | datetime:
    try:
        return date.fromisoformat(value) if isinstance(value, str) and DATE.fullmatch(value) else moment(value)
    except ValueError:
        raise ValueError(
            "must be a day, such as 2026-12-01, or an ISO 8601 time with its zone, such as 2026-12-01T09:00:00Z, not "
            f"{shown(value)}"
        ) from None


def _as_bound(example: str) -> WithJsonSchema:
    forms = [{"type": "string", "format": "date"}, {"type": "string", "format": "date-time"}]
    return WithJsonSchema({"anyOf": forms, "examples": [example]})


Bound = Annotated[date | datetime, BeforeValidator(_bound)]


class ReportQuery(Model):
    """Which rows of a report, and how they are written."""

    since: Annotated[Bound, _as_bound("2026-11-01")] | None = Field(
        default=None,
        description="Only rows from then on: a day in the account's time zone, or a moment, by which days count that "
        "begin at it or later.",
    )
    until: Annotated[Bound, _as_bound("2026-12-01")] | None = Field(default=None, description="Only rows before then.")
    account: str | None = Field(default=None, description="Only rows of this account.")
    format: Literal["json", "csv", "ndjson"] = Field(default="json", description="How it is written.")
    bom: Annotated[bool, Field(strict=False)] = Field(
        default=False, description="Begin CSV with a byte order mark, for Excel."
    )
    formulas: Literal["guarded", "raw"] = Field(
        default="guarded",
        description="In CSV, a text that a spreadsheet would take for a formula (it begins with `=`, `+`, `-`, `@`, a "
        "tab or a line break) gets an apostrophe before it; `raw` leaves it as it is.",
    )

    @property
    def rows(self) -> Wanted:
        """Which rows."""
        return Wanted(self.since, self.until, self.account)


async def list_reports(request: Request) -> Response:
    """List the reports, with their columns."""
    caller = await permit(request)
    return ReportViewList(items=[ReportView.of(view) for view in await _views(caller)]).answer()


async def show_report(request: Request) -> Response:
    """Show the rows of a report.

    Every row as of one moment; as `application/json`, `text/csv` or `application/x-ndjson`, by `format`. Times are in
    UTC. In CSV nothing stands for null and `""` for an empty text. NDJSON ends with a line
    `{"complete": true, "rows": …}`.

    A report is made whole before its first byte is sent: it may take a minute, and be of 1 GiB. A key gets one at a
    time, and waits some seconds for it before it is answered 429.
    """
    caller = await permit(request)
    wanted = parameters(request, ReportQuery)
    view = next((view for view in await _views(caller) if view.name == request.path_params["view"]), None)
    if view is None:
        raise NotFound("There is no such report: GET /reports lists them.")
    form = Form(wanted.format)
    statement = view.statement(wanted.rows, form, guarded=wanted.formulas == "guarded")
    export = Export(caller.database, statement, form, turn=caller.key_id, bom=wanted.bom)
    return await of(request).downloads.answer(caller.key_id, export, _headers(view, form), request.receive)


async def _views(caller: Caller) -> list[View]:
    return views(await caller.database.all("report_views"))


def _headers(view: View, form: Form) -> dict[str, str]:
    headers = {"content-type": MEDIA_TYPES[form]}
    if form is not Form.JSON:
        name = f"{view.name}_{datetime.now(UTC):%Y-%m-%d}.{form}"
        headers["content-disposition"] = f'attachment; filename="{name}"'
    return headers


OPERATIONS = (
    Operation("GET", "/reports", list_reports, (200, ReportViewList)),
    Operation(
        "GET",
        "/reports/{view}",
        show_report,
        (200, ReportRows),
        query=ReportQuery,
        forms=("text/csv", "application/x-ndjson"),
        raises=(ReportTooLarge, DiskFull),
    ),
)
