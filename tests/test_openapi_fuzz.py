"""/openapi.json says what the API does, as schemathesis finds out: at the edges of each schema, and at random."""

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from typing import Any, NoReturn

import pytest
import schemathesis
from fixtures_api import ADMIN_KEY, KEY, settings
from fixtures_openapi import Case, register_formats, respect_descriptions
from schemathesis import engine
from schemathesis.core.failures import Failure
from schemathesis.engine import events
from schemathesis.python import asgi
from schemathesis.specs.openapi.schemas import OpenApiSchema
from starlette.applications import Starlette

from api.accounts import pairing
from api.http import rate_limit
from errors import NameUnknown
from resolver import Resolver
from sql.database import Database
from sql.roles import Role
from wiring.api import create_app

HEADERS = {"x-api-key": KEY, "x-admin-key": ADMIN_KEY}
CONFIG: dict[str, Any] = {
    "seed": 20261129,
    "headers": HEADERS,
    "generation": {"max-examples": 25, "database": "none"},
    # A batch is up to a thousand messages, and these are tried by themselves.
    "operations": [{"include-name": "POST /send/batch", "generation": {"max-examples": 5}}],
    "phases": {"examples": {"enabled": False}, "stateful": {"enabled": False}},
    "continue-on-failure": True,
    # No run is to depend on an earlier one, nor on constants of the code that have nothing to do with it.
    "cache": {"enabled": False},
    "analysis": {"constants": {"enabled": False}},
    # How long drawing takes is no fault of what is tested.
    "suppress-health-check": ["all"],
    "output": {"sanitization": {"enabled": False}},
}
#: Every network is the operator's own, so that a URL is judged by its form alone.
NETWORKS = [*(f"{first}.0.0.0/8" for first in range(256)), *(f"{first:02x}00::/7" for first in range(0, 256, 2))]

ACCEPTED = "ST201"  # schemathesis's code for what a schema forbids and the API accepted
BY_ITSELF = "an item of a batch is answered by itself, and keeps back no other"
TOO_LARGE = "a body that is too large is answered 413, whatever else is wrong with it"


@pytest.fixture
def app(database_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Starlette]:
    """Make an API that waits for no page, asks no name server and counts no tokens."""
    monkeypatch.setattr(pairing, "PATIENCE", 0.0)
    monkeypatch.setattr(rate_limit, "QR_TOKENS_PER_HOUR", 1_000_000)
    app = create_app(settings(webhook_allow_cidrs=",".join(NETWORKS)), Database(database_url, Role.API))
    app.state.context = replace(app.state.context, resolver=Resolver(_unknown))
    yield app
    asgi.shutdown_lifespans()


def _unknown(_: str) -> NoReturn:
    raise NameUnknown


@pytest.mark.long
@pytest.mark.timeout(900)
def test_the_api_does_what_its_description_says(app: Starlette) -> None:
    register_formats()
    schema = schemathesis.openapi.from_asgi("/openapi.json", app, config=schemathesis.Config.from_dict(CONFIG))
    created = schema["/accounts"]["POST"].Case(body={"name": "Shop"}).call(headers=HEADERS)
    respect_descriptions(schema, created.json()["id"])
    by_design: Counter[str] = Counter()

    @schema.hook
    def filter_failure(
        _: schemathesis.HookContext, failure: Failure, case: Case, response: schemathesis.Response
    ) -> bool:
        reason = _reason(failure, case, response)
        by_design.update([reason] if reason else [])
        return reason is None

    found = list(_findings(schema))
    assert not found, "\n\n".join(found)
    assert by_design.keys() == {BY_ITSELF, TOO_LARGE}


def _reason(failure: Failure, case: Case, response: schemathesis.Response) -> str | None:
    """Return why the API is right not to do as its schema says, and None when it is not."""
    if response.status_code == 413:
        return TOO_LARGE
    if failure.code == ACCEPTED and case.operation.label == "POST /send/batch":
        return BY_ITSELF if any(item["status"] == 422 for item in json.loads(response.content)["items"]) else None
    return None


def _findings(schema: OpenApiSchema) -> Iterator[str]:
    for event in engine.from_schema(schema).execute():
        if isinstance(event, events.ScenarioFinished):
            yield from _failures(event)
        elif isinstance(event, events.NonFatalError):
            yield f"{event.label}: {event.value!r}"
        elif isinstance(event, events.FatalError):
            raise event.exception


def _failures(event: events.ScenarioFinished) -> Iterator[str]:
    for case_id, checks in event.recorder.checks.items():
        response = event.recorder.find_response(case_id=case_id)
        answer = response.text[:500] if response else "no answer"
        for info in (check.failure_info for check in checks if check.failure_info):
            heading = f"{info.failure.code} {event.phase.value} {event.label}"
            yield "\n".join([heading, str(info.failure), answer, info.code_sample[:2000]])
