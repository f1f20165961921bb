"""Reading query parameters: known ones only, each once."""

from typing import TypeVar

from starlette.requests import Request

from api.bodies import check
from api.models import Model
from errors import FieldError, Invalid

M = TypeVar("M", bound=Model)


def parameters(request: Request, model: type[M]) -> M:
    """Return the query parameters as `model`; raises Invalid naming each parameter."""
    pairs = request.query_params.multi_items()
    found = dict(pairs)
    if len(found) < len(pairs):
        twice = next(name for name in found if len(request.query_params.getlist(name)) > 1)
        raise Invalid(f"{twice} stands twice.", errors=[FieldError(twice, "stands twice")])
    return check(model, found)
