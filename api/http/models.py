"""The bases of everything on the wire: camelCase, and what a value looks like in a message."""

import json
from datetime import UTC, datetime
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, PlainSerializer, WithJsonSchema, field_validator
from pydantic.alias_generators import to_camel
from starlette.responses import Response

LONGEST_VALUE = 60  # characters of a refused value that are repeated


class Model(BaseModel):
    """What a client sends. Unknown fields are refused, and nothing is converted but 438.0 to 438."""

    model_config = ConfigDict(
        alias_generator=to_camel,
        serialize_by_alias=True,
        extra="forbid",
        strict=True,
        frozen=True,
        # An error that nobody foresaw goes to the log as it is, and must not have texts and numbers in it.
        hide_input_in_errors=True,
    )

    @field_validator("*", mode="before")
    @classmethod
    def _whole(cls, value: object) -> object:
        """Return a number without a fraction as an integer, which it is to JSON Schema (validation, 6.1.1)."""
        return int(value) if isinstance(value, float) and value.is_integer() else value

    @classmethod
    def wants_something(cls) -> bool:
        """Tell whether any field is required: where none is, the body itself may be left out."""
        return any(field.is_required() for field in cls.model_fields.values())


def without_defaults(schema: dict[str, Any]) -> None:
    """Take the defaults out of a description: what is left out of changes stays as it is, and nothing else is null."""
    for described in schema["properties"].values():
        described.pop("default", None)


class Nothing(Model):
    """No fields at all."""


class Shown(BaseModel):
    """What a client gets. Made from rows: columns that it does not name are left out."""

    model_config = ConfigDict(
        alias_generator=to_camel,
        validate_by_name=True,
        serialize_by_alias=True,
        extra="ignore",
        frozen=True,
        hide_input_in_errors=True,
    )

    def answer(self, status: int = 200, **headers: str) -> Response:
        """Return it as JSON; `headers` have underscores for hyphens."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return Response(self.model_dump_json(), status, named, "application/json")


def iso(at: datetime) -> str:
    """Return a time as on the wire: ISO 8601 in UTC, milliseconds, Z."""
    return at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


Time = Annotated[datetime, PlainSerializer(iso), WithJsonSchema({"type": "string", "format": "date-time"})]


def shown(value: object) -> str:
    """Return a refused value for a message: short, and never a whole structure."""
    if isinstance(value, dict):
        return "an object"
    if isinstance(value, list):
        return "a list"
    text = json.dumps(value[: LONGEST_VALUE + 1] if isinstance(value, str) else value, ensure_ascii=False, default=str)
    return text if len(text) <= LONGEST_VALUE else text[:LONGEST_VALUE] + "…"
