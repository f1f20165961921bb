"""Lists: one page of a query's rows for a caller."""

from collections.abc import Callable, Sequence
from typing import Protocol, TypeVar

from starlette.requests import Request
from starlette.responses import Response

from api.http.auth import Caller
from api.http.models import Shown
from api.http.pagination import SOONEST, Page
from api.http.query_params import parameters
from sql.database import Row

T = TypeVar("T")


class ListModel(Protocol[T]):
    """A model with `items` and `next_cursor`."""

    def __call__(self, *, items: list[T], next_cursor: str | None) -> Shown:
        """Make the list of one page."""


async def listed(
    request: Request,
    caller: Caller,
    wanted: type[Page],
    query: str,
    *,
    shape: ListModel[T],
    item: Callable[[Row], T],
    oldest_first: bool = False,
    **values: object,
) -> Response:
    """Answer with the page of a query that the request asks for.

    The query's parameters are the fields of `wanted` by name, those of its page, and the given `values`.
    """
    page = parameters(request, wanted)
    filters = page.model_dump(by_alias=False, exclude={*Page.model_fields})
    bounds = page.values(filters.pop("until", None), oldest_first=oldest_first)
    bounds["since"] = filters.pop("since", None) or SOONEST
    rows = await caller.reading.all(query, **filters, **bounds, **values)
    return page_of(page, rows, shape, item)


def page_of(
    page: Page, rows: Sequence[Row], shape: ListModel[T], item: Callable[[Row], T], at: str = "created_at"
) -> Response:
    """Answer with rows ordered by their time `at`; one row more than the limit means that there is a next page."""
    items = [item(row) for row in rows[: page.limit]]
    return shape(items=items, next_cursor=page.next_cursor(rows, at)).answer()
