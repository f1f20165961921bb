"""docs/http.md and /openapi.json: equal to the code, complete, and readable."""

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
from pydantic import BaseModel

from api.http import auth
from api.http.models import Model, Nothing
from api.http.problems import Problem, internal
from api.openapi import document
from api.openapi.examples import EXAMPLES
from api.openapi.tags import EVERY_CALL, TAGS
from app import OPERATIONS
from commands import http_docs, reference
from errors import DatabaseError, RequestError

DOCUMENT: dict[str, Any] = json.loads(document.document(OPERATIONS, "1", http_docs.TODAY))
DESCRIBED = {
    f"{method.upper()} {path}": about for path, item in DOCUMENT["paths"].items() for method, about in item.items()
}
EVERYWHERE = {"malformed", "invalid"}  # codes of every call
DATABASE = {error.code for error in DatabaseError.__subclasses__()}  # codes of every call that uses the database
SENTENCE = re.compile(r"[A-Z0-9`].*\.", re.DOTALL)


def test_the_page_equals_the_description() -> None:
    assert reference.CALLS.read_text() == http_docs.page(), "run `make reference`"


def test_every_call_is_on_the_page_with_its_codes() -> None:
    page = http_docs.page()
    for call, about in DESCRIBED.items():
        (section,) = re.findall(rf"^### `{re.escape(call)}`\n(.*?)(?=^##)", page + "\n##", re.DOTALL | re.MULTILINE)
        assert about["summary"] in section
        for status, answer in about["responses"].items():
            codes = {*answer.get("x-codes", ())} - EVERYWHERE - DATABASE
            assert re.search(rf"\b{status}\b", section) or (answer.get("x-codes") and not codes), (call, status)
            for code in codes:
                assert f"`{code}`" in section, (call, code)
        for one in about["parameters"]:
            assert f"| `{one['name']}` |" in section, (call, one["name"])


def test_what_every_call_may_be_refused_with_is_told_once() -> None:
    assert "Any call may be refused with 400 `malformed` and 422 `invalid`" in EVERY_CALL
    assert all(f"`{code}`" in EVERY_CALL for code in DATABASE)
    for call, about in DESCRIBED.items():
        codes = {code for answer in about["responses"].values() for code in answer.get("x-codes", ())}
        assert codes >= EVERYWHERE | (set() if call in {"GET /healthz", "GET /openapi.json"} else DATABASE), call
    for line in re.findall("^Refused: .*$", http_docs.page(), re.MULTILINE):
        assert not any(f"`{code}`" in line for code in EVERYWHERE | DATABASE)


def test_every_link_on_the_page_leads_somewhere() -> None:
    page = http_docs.page()
    headings = [http_docs.slug(found) for found in re.findall(r"^#+ (.*)$", page, re.MULTILINE)]
    assert len(set(headings)) == len(headings), "two headings have one anchor"
    for anchor in re.findall(r"\]\(#([^)]*)\)", page):
        assert anchor in headings
    for file in re.findall(r"\]\(([^#)][^)]*)\)", page):
        assert (reference.CALLS.parent / file).exists()


def test_every_call_parameter_and_field_is_described() -> None:
    for call, about in DESCRIBED.items():
        assert SENTENCE.fullmatch(about["summary"]), call
        assert "\n" not in about["summary"]
        for one in about["parameters"]:
            assert SENTENCE.fullmatch(one["description"]), (call, one["name"])
    for name, schema in DOCUMENT["components"]["schemas"].items():
        for field, described in schema.get("properties", {}).items():
            assert SENTENCE.fullmatch(described.get("description", "")), (name, field)


def test_every_code_is_described() -> None:
    page = http_docs.page()
    errors = [*RequestError.__subclasses__()]
    errors += [narrower for error in errors for narrower in error.__subclasses__()]
    for error in errors:
        assert f"| `{error.code}` | {error.status} |" in page
    assert f"| `{json.loads(bytes(internal().body))['code']}` | 500 |" in page
    listed = {
        code
        for about in DESCRIBED.values()
        for answer in about["responses"].values()
        for code in answer.get("x-codes", ())
    }
    assert listed == {error.code for error in errors}


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


def test_every_required_body_has_an_example() -> None:
    wanting = [one.takes for one in OPERATIONS if any(field.is_required() for field in one.takes.model_fields.values())]
    assert {model.__name__ for model in wanting} <= EXAMPLES.keys()


def test_what_holds_for_every_call_is_as_in_the_code() -> None:
    for size in {operation.capacity for operation in OPERATIONS}:
        assert f"{size >> 20} MiB" in EVERY_CALL if size >> 20 else f"{size >> 10} KiB" in EVERY_CALL
    assert "(50, up to 200)" in EVERY_CALL
    limit = next(one for one in DESCRIBED["GET /jobs"]["parameters"] if one["name"] == "limit")
    assert limit["schema"] == {"default": 50, "maximum": 200, "minimum": 1, "type": "integer"}
    assert f"at most {auth.OLDEST} s old and {-auth.NEWEST} s ahead" in EVERY_CALL


def test_every_chapter_has_calls() -> None:
    parts = {operation.path.split("/")[1] for operation in OPERATIONS}
    assert parts == TAGS.keys()
