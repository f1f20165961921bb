"""/openapi.json, made from the table of operations and their pydantic models."""

import asyncio
import inspect
import json
from collections.abc import Iterable
from datetime import UTC, date, datetime
from functools import lru_cache
from http import HTTPStatus
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaMode, JsonSchemaValue, models_json_schema
from pydantic_core.core_schema import StringSchema
from starlette.requests import Request
from starlette.responses import Response

from api.http.context import of
from api.http.models import Nothing
from api.http.operations import Operation
from api.http.patterns import NOT_BLANK, TEXT
from api.http.problems import Problem
from api.http.validators import AS_PHONE
from api.openapi.examples import EXAMPLES, upcoming
from api.openapi.links import links, parameters
from api.openapi.tags import EVERY_CALL, PARAMETERS, TAGS, tag_of
from errors import DatabaseError, DiskFull, EncryptionKeyMissing, RequestError

REF = "#/components/schemas/{model}"
EVERYWHERE = (400, 422)  # statuses of every operation: a NUL in the URL, an unknown parameter
KEYED = (401, 429, 503)  # of every operation that needs a key
WITH_BODY = (413, 415)  # of every operation that takes a body
RETRY_LATER = (429, 503)  # statuses with Retry-After

#: Errors that some operations have besides the usual ones of their status.
RARE = {EncryptionKeyMissing, DiskFull}
#: Each status → its usual errors.
ERRORS: dict[int, list[type[RequestError]]] = {
    error.status: [*DatabaseError.__subclasses__()] if error is DatabaseError else [error]
    for error in RequestError.__subclasses__()
    if error not in RARE
}

#: Pattern that pydantic checks → pattern in the schema.
PATTERNS = {None: TEXT, r"\S": NOT_BLANK}

Json = dict[str, Any]


async def show_openapi(request: Request) -> Response:
    """Describe this API, as OpenAPI 3.1."""
    # Not made at start, which would take twice as long.
    today = datetime.now(UTC).date()
    text = await asyncio.to_thread(document, request.app.state.operations, of(request).version, today)
    return Response(text, media_type="application/json")


@lru_cache(maxsize=2)
def document(operations: tuple[Operation, ...], version: str, today: date) -> str:
    """Return the OpenAPI 3.1 document of the operations. Its examples of future times are a week after `today`."""
    paths: Json = {}
    for operation in operations:
        paths.setdefault(operation.path, {})[operation.method.lower()] = _operation(operation, operations)
    return json.dumps(
        {
            "openapi": "3.1.0",
            "info": {
                "title": "Postrider",
                "version": version,
                "summary": "Sends WhatsApp messages.",
                "description": EVERY_CALL,
            },
            "tags": [{"name": one.name, "description": one.text} for one in dict.fromkeys(TAGS.values())],
            "paths": paths,
            "components": {
                "schemas": _schemas(operations, today),
                "securitySchemes": {
                    "key": {"type": "apiKey", "in": "header", "name": "x-api-key", "description": "An API key."},
                    "admin": {"type": "apiKey", "in": "header", "name": "x-admin-key", "description": "ADMIN_KEY."},
                },
            },
            "security": [{"key": []}],
        }
    )


def _operation(operation: Operation, operations: Iterable[Operation]) -> Json:
    status, given = operation.gives
    linked = links(operation, operations)
    summary, _, description = inspect.cleandoc(operation.handler.__doc__ or "").partition("\n\n")
    described: Json = {
        "operationId": operation.handler.__name__,
        "tags": [tag_of(operation.path).name],
        "summary": summary,
        "parameters": [*_path_parameters(operation.path), *_query_parameters(operation.query)],
        "responses": {
            str(code): _content(given, ("application/json",), HTTPStatus(code).phrase, operation.forms)
            | ({"links": linked} if linked else {})
            for code in (status, *operation.also)
        },
    }
    if description:
        described["description"] = _unfolded(description)
    if operation.takes is not Nothing:
        described["requestBody"] = _content(operation.takes, ("application/json", *operation.bodies))
        described["requestBody"]["required"] = operation.takes.is_required()
    described["responses"] |= {str(code): _refusal(operation, code) for code in sorted(_refused(operation))}
    if operation.open or operation.admin:
        described["security"] = [{"admin": []}] if operation.admin else []
    return described


def _unfolded(text: str) -> str:
    """Return paragraphs without the line breaks in them."""
    return "\n\n".join(" ".join(paragraph.split()) for paragraph in text.split("\n\n"))


def _refused(operation: Operation) -> set[int]:
    refused = {*EVERYWHERE, *operation.refuses}
    follows = (
        (not operation.open, KEYED),
        (operation.admin, (HTTPStatus.FORBIDDEN,)),
        ("{" in operation.path, (HTTPStatus.NOT_FOUND,)),
        (operation.takes is not Nothing, WITH_BODY),
    )
    for holds, statuses in follows:
        refused |= {*statuses} if holds else set()
    return refused


def _refusal(operation: Operation, status: int) -> Json:
    """Describe the answer with an error status; `x-codes` are the codes that it may have."""
    own: list[type[RequestError]] = [*operation.raises]
    if not operation.open:
        own.append(EncryptionKeyMissing)  # of a key with a signing secret
    errors = [*ERRORS[status], *(error for error in own if error.status == status)]
    says = [(error.__doc__ or "").splitlines()[0] for error in errors]
    if status == HTTPStatus.UNAUTHORIZED:
        says = [tag_of(operation.path).unauthorized]
    described = _content(Problem, ("application/problem+json",), " ".join(says))
    described["x-codes"] = [error.code for error in errors]
    if status in RETRY_LATER:
        schema = {"type": "integer", "minimum": 1}
        described["headers"] = {"retry-after": {"description": "Seconds to wait.", "schema": schema}}
    return described


def _content(
    model: type[BaseModel] | None, kinds: Iterable[str], description: str = "", forms: Iterable[str] = ()
) -> Json:
    found: Json = {"description": description} if description else {}
    content: Json = {form: {} for form in forms}
    if model is not None:
        content = {kind: {"schema": {"$ref": REF.format(model=model.__name__)}} for kind in kinds} | content
    return found | ({"content": content} if content else {})


def _path_parameters(path: str) -> list[Json]:
    return [
        {
            "name": name,
            "in": "path",
            "required": True,
            "description": PARAMETERS.get(name) or tag_of(path).id,
            "schema": AS_PHONE if name == "phone" else {"type": "string", "pattern": TEXT},
        }
        for name in parameters(path)
    ]


def _query_parameters(model: type[BaseModel]) -> list[Json]:
    schema = model.model_json_schema(by_alias=True, schema_generator=_Untitled)
    required = schema.get("required", [])
    return [
        {
            "name": name,
            "in": "query",
            "required": name in required,
            "description": described.pop("description", ""),
            "schema": _given(described),
        }
        for name, described in schema.get("properties", {}).items()
    ]


def _given(schema: Json) -> Json:
    """Return the schema of a query parameter that is given: a query has no null."""
    some = [one for one in schema.get("anyOf", ()) if one != {"type": "null"}]
    return some[0] if len(some) == 1 else schema


def _schemas(operations: Iterable[Operation], today: date) -> Json:
    modes: set[tuple[type[BaseModel], JsonSchemaMode]] = {(Problem, "serialization")}
    modes |= {(operation.takes, "validation") for operation in operations if operation.takes is not Nothing}
    modes |= {(shown, "serialization") for operation in operations if (shown := operation.gives[1])}
    in_order = sorted(modes, key=lambda mode: mode[0].__name__)
    schemas: Json = models_json_schema(in_order, ref_template=REF, schema_generator=_Untitled)[1]["$defs"]
    for name, example in EXAMPLES.items():
        schemas[name]["examples"] = [example]
    for name, times in upcoming(today).items():
        for field, example in times.items():
            schemas[name]["properties"][field]["examples"] = [example]
    return schemas


class _Untitled(GenerateJsonSchema):
    """Schemas without titles, which would repeat the names; text in requests has a pattern that forbids NUL."""

    def field_title_should_be_set(self, schema: Any) -> bool:  # noqa: ARG002  # pydantic's
        return False

    def generate_inner(self, schema: Any) -> JsonSchemaValue:
        found = super().generate_inner(schema)
        found.pop("title", None)
        return found

    def str_schema(self, schema: StringSchema) -> JsonSchemaValue:
        found = super().str_schema(schema)
        if self.mode == "validation":
            found["pattern"] = PATTERNS.get(found.get("pattern"), found.get("pattern"))
        return found


OPERATIONS = (Operation("GET", "/openapi.json", show_openapi, (200, None), forms=("application/json",), open=True),)
