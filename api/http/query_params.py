"""Reading query parameters and forms: known fields only, each once."""

from collections.abc import Iterable
from typing import TypeVar
from urllib.parse import parse_qsl

from starlette.requests import Request

from api.http.json_body import check, raw
from api.http.models import Model
from errors import FieldError, Invalid

M = TypeVar("M", bound=Model)

FORM = "application/x-www-form-urlencoded"


def parameters(request: Request, model: type[M]) -> M:
    """Return the query parameters as `model`; raises Invalid naming each parameter."""
    return _once(request.query_params.multi_items(), model)


async def form_fields(request: Request, model: type[M]) -> M:
    """Return the fields of a FORM as `model`; raises Invalid naming each field."""
    return _once(parse_qsl((await raw(request)).decode(errors="replace"), keep_blank_values=True), model)


def _once(pairs: Iterable[tuple[str, str]], model: type[M]) -> M:
    found: dict[str, str] = {}
    for name, value in pairs:
        if name in found:
            raise Invalid(f"{name} stands twice.", errors=[FieldError(name, "stands twice")])
        found[name] = value
    return check(model, found)
