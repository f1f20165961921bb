"""Databases for tests, copied from the migrated template that conftest.py makes."""

import itertools
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import psycopg

from sql.loader import queries

TEMPLATE = "postrider_template"
#: lanes whose count of waiting jobs is not what the jobs say; there must be none
WRONG_DEPTHS = """
    select lanes.id, lane_queued(lanes.id) as counted, count(jobs.id) as queued
    from lanes left join jobs on jobs.account_id = lanes.id and jobs.state = 'queued'
    group by lanes.id
    having lane_queued(lanes.id) <> count(jobs.id)
"""
#: lanes that nobody will look at when their work is due; there must be none
FORGOTTEN = """
    select lane.id, greatest(lane.due_at, '2000-01-01') as due_at, marked
    from (select id, lane_due(lanes) as due_at from lanes) as lane
    left join (select lane_id, min(due_at) as marked from lane_marks group by lane_id) as marks on lane_id = lane.id
    where lane.due_at < 'infinity' and (marked is null or marked > greatest(lane.due_at, now()) + interval '1 second')
    union all
    select id, now(), null from endpoints
    where (status = 'disabled' or deleted_at is not null)
      and exists (select from deliveries where endpoint_id = endpoints.id and deliveries.state = 'pending')
      and not exists (select from lane_marks where lane_id = endpoints.id and due_at <= now() + interval '1 second')
"""
#: rows whose state is not what their other columns say, by which indexes find them; there must be none
WRONG_STATES = """
    select id, state from jobs
    where (state = 'queued') <> (claim is null and ended_at is null)
       or (state in ('sending', 'submitting')) <> (claim is not null and ended_at is null)
       or (state in ('sent', 'delivered', 'read')) <> (sent_at is not null)
    union all
    select id, state from deliveries
    where (state in ('pending', 'sending')) <> (ended_at is null)
       or ended_at is not null and (state = 'failed') <> (last_error is not null)
"""
#: parameters of the query broken_references, for all rows
ALL_ROWS = {"since": "-infinity", "until": "infinity", "most": 20}
_numbers = itertools.count()


@contextmanager
def open_folder() -> Iterator[Path]:
    """A folder that an embedded Postgres can use.

    As root the server runs as a user of its own, who has to walk to its directory, and pytest closes its own folders to
    others whenever another run of it starts.
    """
    with TemporaryDirectory(prefix="postrider-test-", ignore_cleanup_errors=True) as name:
        Path(name).chmod(0o755)
        yield Path(name)


def with_database(url: str, name: str) -> str:
    base, _, query = url.partition("?")
    return f"{base.rpartition('/')[0]}/{name}" + (f"?{query}" if query else "")


def as_login(url: str, name: str) -> str:
    """Return the URL of the same database for another login."""
    scheme, _, rest = url.partition("://")
    return f"{scheme}://{name}@{rest.rpartition('@')[2]}"


def numbered(text: bytes) -> bytes:
    """The query with $1, $2 … for its named parameters, as PREPARE wants it."""
    names: list[bytes] = []

    def number(match: re.Match[bytes]) -> bytes:
        if match[1] not in names:
            names.append(match[1])
        return b"$%d" % (names.index(match[1]) + 1)

    return re.sub(rb"%\((\w+)\)s", number, text).replace(b"%%", b"%")


@contextmanager
def own_database(postgres: str) -> Iterator[str]:
    """Create a migrated database for the block and give its URL."""
    name = f"test_{os.getpid()}_{next(_numbers)}"
    with psycopg.connect(postgres, autocommit=True) as connection:
        connection.execute(f"create database {name} template {TEMPLATE}")
    yield with_database(postgres, name)
    with psycopg.connect(with_database(postgres, name)) as connection:
        assert connection.execute(WRONG_DEPTHS).fetchall() == []
        assert connection.execute(FORGOTTEN).fetchall() == []
        assert connection.execute(WRONG_STATES).fetchall() == []
        assert connection.execute(queries()["broken_references"], ALL_ROWS).fetchall() == []
    with psycopg.connect(postgres, autocommit=True) as connection:
        connection.execute(f"drop database if exists {name} with (force)")
