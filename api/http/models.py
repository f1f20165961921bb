"""Base classes of requests and answers, with fields in camelCase; and how a value is shown in an error."""

import json
from datetime import UTC, datetime
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, PlainSerializer, WithJsonSchema
from pydantic.alias_generators import to_camel
from starlette.responses import Response

LONGEST_VALUE = 60  # characters of a refused value that an error repeats


class Model(BaseModel):
    """A request. Unknown fields are refused, and nothing is converted except 438.0 to 438 (`WHOLE`)."""

    model_config = ConfigDict(
        alias_generator=to_camel,
        serialize_by_alias=True,
        extra="forbid",
        strict=True,
        frozen=True,
        # An unexpected error is logged as it is; it must contain no message texts and phone numbers.
        hide_input_in_errors=True,
    )

    @classmethod
    def is_required(cls) -> bool:
        """Tell whether a body must be given: whether any field is required."""
        return any(field.is_required() for field in cls.model_fields.values())


def without_defaults(schema: dict[str, Any]) -> None:
    """Remove the defaults from a schema: a field that is left out of a change stays as it is."""
    for described in schema["properties"].values():
        described.pop("default", None)


class Nothing(Model):
    """A body or query without fields."""


class Shown(BaseModel):
    """An answer. It is made from a row; columns that it does not name are left out."""

    model_config = ConfigDict(
        alias_generator=to_camel,
        validate_by_name=True,
        serialize_by_alias=True,
        extra="ignore",
        frozen=True,
        hide_input_in_errors=True,
    )

    def answer(self, status: int = 200, **headers: str) -> Response:
        """Return it as a JSON response; names of `headers` have underscores in place of hyphens."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return Response(self.model_dump_json(), status, named, "application/json")


def iso(at: datetime) -> str:
    """Return a time as answers have it: ISO 8601 in UTC, with milliseconds and Z."""
    return at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


Time = Annotated[datetime, PlainSerializer(iso), WithJsonSchema({"type": "string", "format": "date-time"})]


def shown(value: object) -> str:
    """Return a refused value as an error shows it: short, and never a whole structure."""
    if isinstance(value, dict):
        return "an object"
    if isinstance(value, list):
        return "a list"
    text = json.dumps(value[: LONGEST_VALUE + 1] if isinstance(value, str) else value, ensure_ascii=False, default=str)
    return text if len(text) <= LONGEST_VALUE else text[:LONGEST_VALUE] + "…"
