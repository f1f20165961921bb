"""/openapi.json, made from the table of operations and their pydantic models."""

import json
import re
from collections.abc import Iterable
from http import HTTPStatus
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import JsonSchemaMode, models_json_schema
from starlette.requests import Request
from starlette.responses import Response

from api.models import Nothing
from api.operations import Operation
from api.problems import Problem

REF = "#/components/schemas/{model}"
KEYED = (401, 429, 503)  # statuses of every operation that needs a key
WITH_BODY = (400, 413, 415, 422)  # of every operation that takes a body

Json = dict[str, Any]


async def show_openapi(request: Request) -> Response:
    """Describe this API."""
    return Response(request.app.state.openapi, media_type="application/json")


def document(operations: Iterable[Operation], version: str) -> str:
    """Return an OpenAPI 3.1 document of the operations."""
    operations = list(operations)
    paths: Json = {}
    for operation in operations:
        paths.setdefault(operation.path, {})[operation.method.lower()] = _operation(operation)
    return json.dumps(
        {
            "openapi": "3.1.0",
            "info": {"title": "Postrider", "version": version, "summary": "Sends WhatsApp messages."},
            "paths": paths,
            "components": {
                "schemas": _schemas(operations),
                "securitySchemes": {
                    "key": {"type": "apiKey", "in": "header", "name": "x-api-key"},
                    "admin": {"type": "apiKey", "in": "header", "name": "x-admin-key"},
                },
            },
            "security": [{"key": []}],
        }
    )


def _operation(operation: Operation) -> Json:
    status, given = operation.gives
    refused = {*operation.refuses, *(() if operation.open else KEYED)}
    described: Json = {
        "operationId": operation.handler.__name__,
        "summary": (operation.handler.__doc__ or "").strip(),
        "parameters": [*_path_parameters(operation.path), *_query_parameters(operation.query)],
        "responses": {
            str(code): _content(given, "application/json", HTTPStatus(code).phrase)
            for code in (status, *operation.also)
        },
    }
    if operation.takes is not Nothing:
        described["requestBody"] = _content(operation.takes, "application/json")
        refused |= set(WITH_BODY)
    for code in sorted(refused):
        described["responses"][str(code)] = _content(Problem, "application/problem+json", HTTPStatus(code).phrase)
    if operation.open or operation.admin:
        described["security"] = [{"admin": []}] if operation.admin else []
    return described


def _content(model: type[BaseModel] | None, kind: str, description: str = "") -> Json:
    found: Json = {"description": description} if description else {}
    if model is not None:
        found["content"] = {kind: {"schema": {"$ref": REF.format(model=model.__name__)}}}
    return found


def _path_parameters(path: str) -> list[Json]:
    names = re.findall(r"{(\w+)}", path)
    return [{"name": name, "in": "path", "required": True, "schema": {"type": "string"}} for name in names]


def _query_parameters(model: type[BaseModel]) -> list[Json]:
    schema = model.model_json_schema(by_alias=True)
    required = schema.get("required", [])
    return [
        {"name": name, "in": "query", "required": name in required, "schema": described}
        for name, described in schema.get("properties", {}).items()
    ]


def _schemas(operations: Iterable[Operation]) -> Json:
    modes: set[tuple[type[BaseModel], JsonSchemaMode]] = {(Problem, "serialization")}
    modes |= {(operation.takes, "validation") for operation in operations if operation.takes is not Nothing}
    modes |= {(shown, "serialization") for operation in operations if (shown := operation.gives[1])}
    schemas: Json = models_json_schema(list(modes), ref_template=REF)[1]["$defs"]
    return schemas
