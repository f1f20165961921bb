"""Make docs/http.md, the calls of the HTTP API as a page for people, from /openapi.json."""

import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import date
from itertools import groupby
from operator import itemgetter
from typing import Any

from api.http.pagination import CURSOR
from api.http.patterns import NOT_BLANK, READABLE, TEXT
from api.openapi import document
from app import OPERATIONS
from errors import PostriderError, RequestError

Json = dict[str, Any]
#: A line of a table: a field, its type and bounds, and its description.
Row = tuple[str, str, str]

JSON = "application/json"
#: Names of JSON Schema types and formats for people.
KINDS = {
    "integer": "whole number",
    "boolean": "`true` or `false`",
    "date-time": "time",
    "phone-number": "phone number",
    "iana-time-zone": "IANA time zone",
}
#: Patterns in words. That no text may contain NUL stands once, in every_call.md.
PATTERNS = {TEXT: "", NOT_BLANK: "not blank", READABLE: "not blank", f"^{CURSOR.pattern}$": "as it came"}
LONGEST_PATTERN = 60  # characters of a pattern that is printed; a longer one tells people nothing
TODAY = date(2026, 12, 1)  # any day would do: the page prints no example that depends on it
PAGE = {"items", "nextCursor"}  # fields of a paginated list
WIDTH = 110  # characters of a line in an example

INTRODUCTION = """\
# HTTP calls

This page is for developers: every call of the API, with its fields and error codes. The [README](../README.md) shows
the few calls that most applications need.

`make reference` makes this page from `/openapi.json`, and a test checks that it is up to date."""


def page() -> str:
    """Return docs/http.md."""
    return _Page(json.loads(document.document(OPERATIONS, "", TODAY))).text()


def slug(heading: str) -> str:
    """Return the anchor that a heading has on GitHub."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


@dataclass(frozen=True)
class Call:
    """An operation, as /openapi.json describes it."""

    method: str
    path: str
    about: Json

    @property
    def link(self) -> str:
        """A link to the heading of this call."""
        return f"[`{self.method} {self.path}`](#{slug(f'{self.method} {self.path}')})"

    @property
    def body(self) -> str | None:
        """The name of the schema of its body."""
        return _schema_of(self.about.get("requestBody", {}))

    @property
    def given(self) -> Json:
        """Its successful answer."""
        found: Json = next(iter(self.about["responses"].values()))
        return found

    @property
    def answer(self) -> str | None:
        """The name of the schema of its answer."""
        return _schema_of(self.given)

    @property
    def forms(self) -> list[str]:
        """The media types of its answer; JSON is one of them if there is a schema."""
        return list(self.given.get("content", {}))

    @property
    def successes(self) -> list[str]:
        """Its statuses of success."""
        return [status for status in self.about["responses"] if status < "4"]

    @property
    def refusals(self) -> list[tuple[str, str]]:
        """Its statuses of refusal, each with a code."""
        answers = self.about["responses"].items()
        return [(status, code) for status, answer in answers for code in answer.get("x-codes", ())]


def _schema_of(described: Json) -> str | None:
    schema = described.get("content", {}).get(JSON, {}).get("schema")
    return _name(schema) if schema else None


def _name(reference: Json) -> str:
    return str(reference["$ref"]).rpartition("/")[2]


class _Page:
    def __init__(self, document: Json) -> None:
        self._document = document
        self._schemas: Json = document["components"]["schemas"]
        self._calls = [
            Call(method.upper(), path, about)
            for path, item in document["paths"].items()
            for method, about in item.items()
        ]
        self._bodies = {call.body: call for call in self._calls if call.body}
        used = Counter(self._item(call.answer) or call.answer for call in self._calls if call.answer)
        #: refusals of every call that uses the database
        used_by = ({*call.refusals} for call in self._calls if any(status == "503" for status, _ in call.refusals))
        self._everywhere = set.intersection(*used_by)
        #: schemas that several calls answer, which get a section of their own
        self._shared = [name for name, times in used.items() if times > 1]

    def text(self) -> str:
        """Return the whole page."""
        parts = [INTRODUCTION, "**[Every call](#every-call)**: keys, bodies, lists, errors", *self._contents()]
        parts += ["## Every call", self._document["info"]["description"].strip()]
        parts += [*self._fields("Problem"), *self._example("Problem"), *self._codes()]
        described: set[str] = set()
        for tag in self._document["tags"]:
            parts += [f"## {tag['name']}", tag["description"]]
            for call in self._of(tag):
                parts += self._call(call)
            for name in self._shared:
                if name not in described and any(self._answers(call, name) for call in self._of(tag)):
                    described.add(name)
                    parts += [f"### {name}", *self._shape(name)]
        return self._linked("\n\n".join(parts) + "\n")

    def _linked(self, text: str) -> str:
        """Return the text with a link from each named call to its heading."""
        places = {f"`{call.method} {call.path}`": call.link for call in self._calls}
        return re.sub(
            r"(?<!\[)(?<!^### )`[A-Z]+ /[^`]*`", lambda found: places.get(found[0], found[0]), text, flags=re.MULTILINE
        )

    def _of(self, tag: Json) -> list[Call]:
        return [call for call in self._calls if call.about["tags"] == [tag["name"]]]

    def _answers(self, call: Call, name: str) -> bool:
        return name in {call.answer, self._item(call.answer)}

    def _contents(self) -> Iterator[str]:
        for tag in self._document["tags"]:
            yield f"**[{tag['name']}](#{slug(tag['name'])})**"
            yield _table(("call", ""), ((call.link, call.about["summary"]) for call in self._of(tag)))

    def _codes(self) -> Iterator[str]:
        yield _table(
            ("code", "status", ""), ((f"`{error.code}`", str(error.status), _first(error)) for error in _errors())
        )

    # --- a call ------------------------------------------------------------------------------------------------------

    def _call(self, call: Call) -> Iterator[str]:
        yield f"### `{call.method} {call.path}`"
        yield f"{call.about['summary']} {call.about.get('description', '')}".strip()
        yield _who(call)
        if parameters := call.about["parameters"]:
            yield _table(("parameter", "", ""), (self._parameter(one) for one in parameters))
        if call.body:
            yield _table(("body", "", ""), self._rows(self._schemas[call.body]))
            yield from self._example(call.body)
        yield from self._answer(call)
        yield from self._refusals(call)

    def _parameter(self, one: Json) -> Row:
        where = "in the path" if one["in"] == "path" else ""
        kind, *bounds = self._kind(one["schema"])
        said = [kind, where or ("required" if one["required"] else ""), *bounds]
        return f"`{one['name']}`", ", ".join(filter(None, said)), one["description"]

    def _answer(self, call: Call) -> Iterator[str]:
        status = " or ".join(f"**{status}**" for status in call.successes)
        by = "`format`" if any(one["name"] == "format" for one in call.about["parameters"]) else "`Accept`"
        also = f" By {by} also as {_either(call.forms[1:])}." if call.forms[1:] else ""
        item = self._item(call.answer)
        if call.answer is None:
            yield f"{status} {_either(call.forms)}." if call.forms else f"{status}, without a body."
        elif call.answer in self._shared:
            yield f"{status} [{call.answer}](#{slug(call.answer)}).{also}"
        elif item in self._shared:
            yield f"{status} [A page](#lists) of [{item}](#{slug(item or '')})."
        else:
            yield f"{status} {self._schemas[call.answer]['description']}{also}"
            yield from self._fields(call.answer)
            yield from self._example(call.answer)

    def _refusals(self, call: Call) -> Iterator[str]:
        own = [refusal for refusal in call.refusals if refusal not in self._everywhere]
        by_status = [
            f"{status} {', '.join(f'`{code}`' for _, code in some)}" for status, some in groupby(own, itemgetter(0))
        ]
        if own:
            yield f"Refused: {' · '.join(by_status)}."

    # --- schemas -----------------------------------------------------------------------------------------------------

    def _shape(self, name: str) -> Iterator[str]:
        yield self._schemas[name]["description"]
        yield from self._fields(name)
        yield from self._example(name)

    def _fields(self, name: str) -> Iterator[str]:
        """Yield a table of an answer's fields, without those of a shared schema that it contains."""
        schema = self._schemas[name]
        less = next((one for one in self._shared if one != name and self._has(schema, self._schemas[one])), None)
        if less:
            yield f"All of [{less}](#{slug(less)}), and:"
            own = {
                key: field
                for key, field in schema["properties"].items()
                if key not in self._schemas[less]["properties"]
            }
            schema = {**schema, "properties": own}
        yield _table(("answer", "", ""), self._rows(schema, answered=True))

    def _has(self, schema: Json, other: Json) -> bool:
        return all(schema["properties"].get(key) == field for key, field in other["properties"].items())

    def _item(self, name: str | None) -> str | None:
        """Return the name of the item's schema, if this is a paginated list."""
        if name is None or set(self._schemas[name]["properties"]) != PAGE:
            return None
        return _name(self._schemas[name]["properties"]["items"]["items"])

    def _example(self, name: str) -> Iterator[str]:
        for example in self._schemas[name].get("examples", ()):
            yield f"```json\n{_pretty(example)}\n```"

    def _rows(self, schema: Json, before: str = "", *, answered: bool = False) -> Iterator[Row]:
        for name, field in schema["properties"].items():
            kind, *bounds = self._kind(field)
            required = ["required"] if name in schema.get("required", ()) else []
            said = [kind] if answered else [kind, *required, *bounds]
            yield f"`{before}{name}`", ", ".join(said), field.get("description", "")
            yield from self._inner(field, f"{before}{name}", answered=answered)

    def _inner(self, field: Json, before: str, *, answered: bool) -> Iterator[Row]:
        """Yield the fields of the objects in a field; those of alternatives in one list."""
        merged: dict[str, Row] = {}
        for held, place in _held(field, before):
            if held not in self._bodies and "properties" in self._schemas[held]:
                for name, kind, text in self._rows(self._schemas[held], f"{place}.", answered=answered):
                    merged[name] = (name, kind, f"{merged[name][2]} {text}" if name in merged else text)
        yield from merged.values()

    def _kind(self, field: Json) -> list[str]:
        """Return a value's type, then its bounds and its default."""
        kinds = [self._one_kind(one) for one in _alternatives(field)]
        bounds = [bound for one in _alternatives(field) for bound in _bounds(one)]
        if field.get("default") is not None and not isinstance(field["default"], dict):
            bounds.append(f"default {_value(field['default'])}")
        return [" or ".join(dict.fromkeys(kinds)) + (" or null" if _is_nullable(field) else ""), *bounds]

    def _one_kind(self, one: Json) -> str:
        if "$ref" in one:
            return "object"
        if "const" in one or "enum" in one:
            return _either(one.get("enum") or [one["const"]])
        if one.get("type") == "array":
            return f"list of {self._many(one['items'])}"
        if isinstance(one.get("additionalProperties"), dict) and one["additionalProperties"].get("type") == "string":
            return "object of strings"
        kind = str(one.get("type", "any JSON"))
        return KINDS.get(one.get("format", kind), kind)

    def _many(self, items: Json) -> str:
        if "enum" in items:
            return self._one_kind(items)
        call = self._bodies.get(_name(items)) if "$ref" in items else None
        return f"bodies of {call.link}" if call else f"{self._one_kind(_alternatives(items)[0])}s"


def _alternatives(field: Json) -> list[Json]:
    return [one for one in field.get("anyOf", [field]) if one.get("type") != "null"]


def _held(field: Json, before: str) -> Iterator[tuple[str, str]]:
    """Yield the names of the schemas that a field refers to, each with its path."""
    for one in _alternatives(field):
        is_list = one.get("type") == "array"
        for held in _alternatives(one["items"] if is_list else one):
            if "$ref" in held:
                yield _name(held), f"{before}[]" if is_list else before


def _is_nullable(field: Json) -> bool:
    return {"type": "null"} in field.get("anyOf", ())


def _bounds(one: Json) -> Iterator[str]:
    yield from _between(one.get("minLength"), one.get("maxLength"), " characters")
    yield from _between(one.get("minItems"), one.get("maxItems"), " of them")
    if "exclusiveMinimum" in one:
        yield f"more than {one['exclusiveMinimum']:,}"
    yield from _between(one.get("minimum"), one.get("maximum"), "")
    pattern = one.get("pattern", TEXT)
    if said := PATTERNS.get(pattern, f"`{pattern}`" if len(pattern) <= LONGEST_PATTERN else ""):
        yield said


def _between(low: float | None, high: float | None, of: str) -> Iterator[str]:
    if low is not None and high is not None:
        yield f"{low:,} to {high:,}{of}"
    elif high is not None:
        yield f"at most {high:,}{of}"
    elif low is not None:
        yield f"at least {low:,}{of}"


def _who(call: Call) -> str:
    wanted = call.about.get("security", [{"key": []}])
    if not wanted:
        return "Needs no key."
    return "Needs `ADMIN_KEY` in `x-admin-key`." if "admin" in wanted[0] else "Needs `x-api-key`."


def _errors() -> list[type[PostriderError]]:
    """Return every error that the API answers, by status."""
    found: list[type[PostriderError]] = [PostriderError]
    for error in RequestError.__subclasses__():
        found += [error, *error.__subclasses__()]
    by_code = {error.code: error for error in found}
    return sorted(by_code.values(), key=lambda error: error.status)


def _first(error: type[PostriderError]) -> str:
    return (error.__doc__ or "").splitlines()[0]


def _either(words: Iterable[object]) -> str:
    *rest, last = [f"`{word}`" for word in words]
    return f"{', '.join(rest)} or {last}" if rest else last


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = [head, ("---",) * len(head), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


def _value(value: object) -> str:
    return "empty" if value == "" else f"`{value if isinstance(value, str) else _json(value)}`"


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)


def _pretty(value: object, indent: str = "") -> str:
    """Return JSON in as few lines as fit the width."""
    if len(indent + _json(value)) <= WIDTH:
        return _json(value)
    inner = indent + "  "
    if isinstance(value, Mapping):
        parts = [f"{inner}{_json(name)}: {_pretty(item, inner)}" for name, item in value.items()]
        return "{\n" + ",\n".join(parts) + f"\n{indent}}}"
    if isinstance(value, list):
        return "[\n" + ",\n".join(inner + _pretty(item, inner) for item in value) + f"\n{indent}]"
    return _json(value)
