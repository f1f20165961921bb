"""Four records that have to agree: what clients were told, the tables, what recipients got, what the receiver got."""

import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path
from typing import Any

from faults.load import Order

ENDS = {"JobCompleted": {"sent", "delivered", "read"}, "JobFailed": {"failed"}, "JobCancelled": {"cancelled"}}
SENT = ENDS["JobCompleted"]


@dataclass(frozen=True)
class Row:
    """A job as the tables have it."""

    id: str
    key: str | None
    text: str
    phone: str
    state: str
    error: str | None
    reason: str | None
    attempts: int
    #: terminal events of it in the outbox
    events: list[str]

    @property
    def name(self) -> str:
        """Its jobId on the wire."""
        return self.key or self.id


@dataclass
class Records:
    """What each side has of one run."""

    orders: list[Order]
    rows: list[Row]
    #: texts by recipient, in the order in which they arrived
    got: dict[str, list[str]]
    #: events as the receiver wrote them
    received: list[dict[str, Any]]
    #: what the API says of each job, by text
    shown: dict[str, str] = field(default_factory=dict)

    def wrong(self) -> list[str]:
        """Return everything in which they do not agree, a sentence each."""
        return [
            *self._accepted(),
            *(line for row in self.rows for line in self._ended(row)),
            *(line for row in self.rows for line in self._events(row)),
            *self._strangers(),
            *self._swapped(),
        ]

    def crowd_wrong(self) -> list[str]:
        """Return what is wrong with valid orders that had a key each, and were asked for until told."""
        known = {order.text for order in self.orders}
        wrong = [*self._accepted()]
        for order in self.orders:
            if order.told == "refused":
                wrong.append(f"LIED: {order.text} was refused with {order.answers[-1]}, and nothing is wrong with it")
            if order.told == "unknown":
                wrong.append(f"STUCK: {order.text} was asked {len(order.answers)} times, at last {order.answers[-1:]}")
            if order.told == "accepted" and order.job != order.key:
                wrong.append(f"LIED: {order.text} with the key {order.key} was answered with the job {order.job}")
        wrong += [f"LIED: {row.text} is a job, and nobody asked for it" for row in self.rows if row.text not in known]
        return wrong

    def _accepted(self) -> Iterable[str]:
        rows = Counter(row.text for row in self.rows)
        states = {row.text: row.state for row in self.rows}
        for order in self.orders:
            if order.told == "accepted" and not rows[order.text]:
                yield f"LOST: {order.text} was answered 202 and has no row"
            if order.told == "refused" and rows[order.text]:
                yield f"LIED: {order.text} was refused with {order.answers[-1]} and has a row"
            if rows[order.text] > 1:
                yield f"DOUBLED: {order.text} has {rows[order.text]} rows"
            if order.cancelled and states.get(order.text) != "cancelled":
                yield f"LIED: {order.text} was said to be cancelled and is {states.get(order.text)}"

    def _ended(self, row: Row) -> Iterable[str]:
        count = self.got.get(row.phone, []).count(row.text)
        if count > 1:
            yield f"DOUBLED: {row.text} arrived {count} times"
        if row.state not in {state for states in ENDS.values() for state in states}:
            yield f"STUCK: {row.text} is still {row.state} after {row.attempts} attempts ({row.error})"
        elif row.state in SENT and not count:
            yield f"LOST: {row.text} is {row.state} and never arrived"
        elif row.state not in SENT and count and row.error != "outcome_unknown":
            yield f"LIED: {row.text} is {row.state} ({row.error}) and arrived"
        if self.shown and self.shown.get(row.text) not in {row.state, *(SENT if row.state in SENT else ())}:
            yield f"LIED: GET /jobs says {self.shown.get(row.text)} of {row.text}, which is {row.state}"

    def _events(self, row: Row) -> Iterable[str]:
        wanted = [kind for kind, states in ENDS.items() if row.state in states]
        if wanted and row.events != wanted:
            yield f"EVENT: {row.text} is {row.state} and has the events {row.events}"
        ids = {
            (event["type"], event["id"])
            for event in self.received
            if event.get("type") in ENDS and event["data"]["jobId"] == row.name
        }
        if sorted(kind for kind, _ in ids) != wanted:
            yield f"EVENT: {row.text} is {row.state} and the receiver has {sorted(ids)}"

    def _strangers(self) -> Iterable[str]:
        refused = [event for event in self.received if "refused" in event]
        if refused:
            yield f"EVENT: {len(refused)} requests with a bad signature, the first: {refused[0]}"
        known = {row.text for row in self.rows}
        for phone, texts in self.got.items():
            for text in texts:
                if text not in known:
                    yield f"LIED: {phone} got {text!r}, which no job says"
        bodies: dict[str, set[str]] = {}
        for event in self.received:
            if "id" in event:
                bodies.setdefault(event["id"], set()).add(json.dumps(event, sort_keys=True))
        for name, seen in bodies.items():
            if len(seen) > 1:
                yield f"EVENT: {name} came with {len(seen)} different bodies"

    def _swapped(self) -> Iterable[str]:
        """Of what was due at once: a time ahead is its own order, and so is what was asked for at the same time."""
        orders = {order.text: order for order in self.orders if order.ahead is None}
        for phone, texts in self.got.items():
            for first, second in combinations([orders[text] for text in texts if text in orders], 2):
                if second.told_at < first.asked_at:
                    yield f"ORDER: {first.text} arrived at {phone} before {second.text}, which was accepted before it"


def read_received(file: Path, begin: int = 0) -> list[dict[str, Any]]:
    """Return the receiver's lines from an offset in bytes on; the last may be half written by one that was killed."""
    lines = []
    with file.open("rb") as text:
        text.seek(begin)
        for line in filter(bytes.strip, text):
            try:
                lines.append(json.loads(line))
            except ValueError:
                continue
    return lines
