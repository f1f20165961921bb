"""/openapi.json: equal to the code, and complete."""

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
from pydantic import BaseModel

from api import auth, bodies, openapi
from api.chapters import CHAPTERS, EVERY_CALL
from api.examples import EXAMPLES
from api.models import Model, Nothing
from api.problems import Problem
from app import OPERATIONS

DOCUMENT: dict[str, Any] = json.loads(openapi.document(OPERATIONS, "1"))
DESCRIBED = {
    f"{method.upper()} {path}": about for path, item in DOCUMENT["paths"].items() for method, about in item.items()
}
SENTENCE = re.compile(r"[A-Z0-9`].*\.", re.DOTALL)


def test_every_call_parameter_and_field_is_described() -> None:
    for call, about in DESCRIBED.items():
        assert SENTENCE.fullmatch(about["summary"]), call
        assert "\n" not in about["summary"]
        for one in about["parameters"]:
            assert SENTENCE.fullmatch(one["description"]), (call, one["name"])
    for name, schema in DOCUMENT["components"]["schemas"].items():
        for field, described in schema.get("properties", {}).items():
            assert SENTENCE.fullmatch(described.get("description", "")), (name, field)


def models() -> Iterator[tuple[str, type[BaseModel]]]:
    yield "Problem", Problem
    for operation in OPERATIONS:
        for model in (operation.takes, operation.gives[1]):
            if model not in {None, Nothing}:
                assert model
                yield model.__name__, model
                for field in model.model_fields.values():
                    inner = getattr(field.annotation, "__args__", ())
                    yield from (
                        (one.__name__, one) for one in inner if isinstance(one, type) and issubclass(one, BaseModel)
                    )


@pytest.mark.parametrize("name", EXAMPLES)
def test_an_example_fits_its_model(name: str) -> None:
    model, example = dict(models())[name], EXAMPLES[name]
    found = model.model_validate_json(json.dumps(example))
    if not issubclass(model, Model):
        assert json.loads(found.model_dump_json()) == example, "an answer has all fields"


def test_every_body_that_wants_something_has_an_example() -> None:
    wanting = [one.takes for one in OPERATIONS if any(field.is_required() for field in one.takes.model_fields.values())]
    assert {model.__name__ for model in wanting} <= EXAMPLES.keys()


def test_what_holds_for_every_call_is_as_in_the_code() -> None:
    for size in (bodies.CAP, *bodies.CAPS.values()):
        assert f"{size >> 20} MiB" in EVERY_CALL if size >> 20 else f"{size >> 10} KiB" in EVERY_CALL
    assert "(50, up to 200)" in EVERY_CALL
    limit = next(one for one in DESCRIBED["GET /jobs"]["parameters"] if one["name"] == "limit")
    assert limit["schema"] == {"default": 50, "maximum": 200, "minimum": 1, "type": "integer"}
    assert f"at most {auth.OLDEST} s old and {-auth.NEWEST} s ahead" in EVERY_CALL


def test_every_chapter_has_calls() -> None:
    parts = {operation.path.split("/")[1] for operation in OPERATIONS}
    assert parts == CHAPTERS.keys()
