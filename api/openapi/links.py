"""Links in /openapi.json: the operations that can follow an answer, with the fields that are their parameters."""

import re
from collections.abc import Iterable
from typing import Any

from api.http.operations import Operation

PARAMETER = r"{(\w+)}"


def links(operation: Operation, operations: Iterable[Operation]) -> dict[str, Any]:
    """Return the links of an operation's successful answer, by the name of the linked operation."""
    fields = _fields(operation)
    path = operation.leads_to or (f"{operation.path}/{{id}}" if "id" in fields else None)
    if path is None:
        return {}
    # Paths below it are about the same object, unless they have further parameters.
    below = re.compile(re.sub(PARAMETER, r"{(\\w+)}", path) + "(?:/[a-z-]+)*")
    sources = [f"$response.body#/{name}" if name in fields else f"$request.path.{name}" for name in parameters(path)]
    return {
        target.handler.__name__: {
            "operationId": target.handler.__name__,
            "parameters": dict(zip(found.groups(), sources, strict=True)),
        }
        for target in operations
        if (found := below.fullmatch(target.path))
    }


def parameters(path: str) -> list[str]:
    """Return the names of a path's parameters."""
    return re.findall(PARAMETER, path)


def _fields(operation: Operation) -> set[str]:
    given = operation.gives[1]
    return {field.alias or name for name, field in given.model_fields.items()} if given else set()
