"""Two orgs that have the same of everything, and the queries by which the API could reach from one into the other."""

import ast
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any

import psycopg
from psycopg.rows import dict_row
from psycopg.sql import SQL, Composable, Identifier

from sql import scope
from sql.loader import queries
from sql.roles import Role
from sql.scope import Scope

ROOT = Path(__file__).parent.parent
OURS, THEIRS = "org_alfa", "org_bravo"
#: Stands in every text and id that is theirs.
MARK = "bravo"

WORLD = (Path(__file__).parent / "fixtures_tenancy.sql").read_text()
#: What a query needs before it has an effect; `$x` as above.
FIRST = {
    "ask_pairing_code": "update accounts set pairing_phone = null where id = 'acc_$x'",
    "fail_waiting": "update endpoints set status = 'disabled' where id = 'whe_$x'",
    "resume_account": "update accounts set paused = true, failures_in_a_row = 1 where id = 'acc_$x'",
    "resume_org": "update orgs set self_paused_at = now() where org_id = 'org_$x'",
    "reset_health": "update endpoints set failures = 3 where id = 'whe_$x'",
    "revoke_bootstrap_key": "update api_keys set id = 'key_bootstrap' where id = 'key_$x'",
    "wake_own": "delete from procrastinate_jobs",
}

#: Queries of the API that are of no org, or run before one is known, and who may see what they return.
OF_NO_ORG = {
    "database_time": "the time",
    "known_zone": "time zones",
    "report_views": "names of views and their columns",
    "lock_opt_outs": "advisory locks",
    "sign_api": "this process's own row",
    "unregister_api": "this process's own row",
    # --- doors: whoever has the secret
    "find_key": "the owner of the key",
    "accept": "the owner of the key",
    "wake_accepted": "nobody: it returns nothing",
    "qr_token": "whoever has the link",
    "trade_qr_token": "whoever has the link",
    "qr_visit": "whoever has the cookie",
    # --- doors: the operator
    "create_org": "ADMIN_KEY",
    "list_orgs": "ADMIN_KEY",
    "create_qr_token": "ADMIN_KEY",
    "stop_all": "ADMIN_KEY",
    "start_all": "ADMIN_KEY",
    "waiting_deliveries": "ADMIN_KEY, or this machine",
    "count_endpoints": "ADMIN_KEY, or this machine",
    "duties_done": "ADMIN_KEY, or this machine",
    "oldest_rows": "ADMIN_KEY, or this machine",
}


def queries_of_the_api() -> list[str]:
    """Return the names of all queries that the code in api/ names."""
    constants = {
        node.value
        for path in (ROOT / "api").rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    }
    return sorted(constants & queries().keys())


def values(org: str) -> dict[str, Any]:
    """Return parameters that name the rows of an org, for every query of the API."""
    x = org.removeprefix("org_")
    return {
        "org": org, "account": f"acc_{x}", "accounts": [f"acc_{x}"], "lane": f"acc_{x}",
        "lanes": [f"acc_{x}", f"whe_{x}"], "job": f"job_{x}",
        "keys": [f"key of {x}"], "contents": [sha256(f"equal {x}".encode()).digest()], "ids": [f"job_{x}_new"],
        "id": f"new_{x}", "hash": sha256(f"key of {x}".encode()).digest(),
        "endpoint": f"whe_{x}", "endpoints": [f"whe_{x}"], "delivery": f"dlv_{x}", "recovery": f"rec_{x}",
        "deliveries": [f"dlv_{x}", f"dlv_{x}_open"], "phone": "15551230001", "phones": ["15551230001"],
        "signature": b"signed", "secret": b"new", "signing_secret": None, "public_key": None,
        "name": "New", "zone": "UTC", "pace": True, "transport": "sandbox", "limits": "{}", "seconds": None,
        "proxy": None, "proxy_shown": None, "with_proxy": False, "reason": "paused", "status": None, "type": None,
        "since": "-infinity", "until": "infinity", "after_at": "infinity", "after_id": "", "limit": 100, "most": 100,
        "within": timedelta(hours=1), "ttl": timedelta(hours=1), "force": True, "added": ["x"], "ignored": [],
        "url": "https://new.example/", "events": ["*"], "description": "new", "headers": "{}", "retry": "{}",
        "per_second": None, "messages": ["Hi"], "priorities": [0], "metadata": [None], "send_at": [None],
        "expires_at": [None], "request": "req_1", "overlap": 60, "reply": None,
    }  # fmt: skip


#: Parameters of one query that are not those of `values`; `$x` as above.
OWN: dict[str, dict[str, Any]] = {
    "add_opt_out": {"phone": "15558880001", "id": "opt_new"},
    "accept_signature": {"signature": b"another"},
    "attend": {"seconds": 0.0},
    "ask_pairing_code": {"phone": "15550000009"},
    "bring_back": {"job": "job_$x_old"},
    "lift_opt_out": {"phone": "15559990001"},
    "list_accounts": {"after_at": "-infinity"},
    "list_endpoints": {"after_at": "-infinity"},
    "list_incoming": {"phone": None},
    "list_jobs": {"phone": None},
    "list_opt_outs": {"phone": None},
    "create_account": {"id": "acc_$x_new"},
    "create_endpoint": {"id": "whe_$x_new", "signature": "v1"},
    "create_recovery": {"id": "rec_$x_new", "since": "2020-01-01", "until": "2021-01-01"},
    "retry_job": {"job": "job_$x_failed"},
    "why_not_retried": {"job": "job_$x_failed"},
    "replace_secret": {"signature": "v1"},
    "switch_endpoint": {"status": "paused"},
    "put_bootstrap_key": {"hash": b"another hash"},
    "put_bootstrap_endpoint": {"secret": b"s"},
}


def fill(connection: psycopg.Connection[Any]) -> None:
    """Make both orgs."""
    for org in (OURS, THEIRS):
        add(connection, org)


def add(connection: psycopg.Connection[Any], org: str) -> None:
    """Make one more org like them."""
    connection.execute(_of(WORLD, org.removeprefix("org_")))


def _of(text: str, name: str) -> bytes:
    return text.replace("$x", name).encode()


def parameters(query: str, org: str) -> dict[str, Any]:
    """Return the parameters of a query that name the rows of an org."""
    name = org.removeprefix("org_")
    own = {
        key: value.replace("$x", name) if isinstance(value, str) else value for key, value in OWN.get(query, {}).items()
    }
    return {**values(org), **own}


def digest(connection: psycopg.Connection[Any], org: str) -> list[tuple[Any, ...]]:
    """Return a digest of every table's rows of an org, and the wake-ups of its lanes."""
    tables = connection.execute(
        """
        select relname from pg_class join pg_attribute on attrelid = pg_class.oid and attname = 'org_id'
        where relnamespace = 'public'::regnamespace and relkind in ('r', 'p') and not relispartition
        order by 1
        """
    ).fetchall()
    each = SQL("select {}, md5(string_agg(t::text, ',' order by t::text)) from {} t where org_id = %(org)s")
    statements: list[Composable] = [each.format(table, Identifier(table)) for (table,) in tables]
    statements.append(
        SQL("select 'wake-ups', string_agg(lock, ',' order by lock) from procrastinate_jobs where lock like %(like)s")
    )
    like = f"%{org.removeprefix('org_')}%"
    return connection.execute(SQL(" union all ").join(statements), {"org": org, "like": like}).fetchall()


@contextmanager
def tried(
    connection: psycopg.Connection[Any], query: str, *, within: str, org: str, of: str
) -> Iterator[dict[str, Any]]:
    """Run a query as the API does in the scope of one org, with the rows of another; yield what it returned or raised.

    Inside the block the connection is what it logged in as again; after it, all of it is rolled back.
    """
    name = of.removeprefix("org_")
    with connection.transaction(force_rollback=True):
        if query in FIRST:
            connection.execute(_of(FIRST[query], name))
        found: dict[str, Any] = {"before": digest(connection, THEIRS)}
        try:
            with connection.transaction(), connection.cursor(row_factory=dict_row) as cursor:
                cursor.execute(SQL("set local role {}").format(Identifier(Role.API)))
                cursor.execute(scope.SET, Scope(within).values)
                cursor.execute(queries()[query], {**parameters(query, of), "org": org})
                found["rows"] = cursor.fetchall() if cursor.description else []
                cursor.execute("reset role")
        except psycopg.Error as error:
            found["error"] = error
        found["after"] = digest(connection, THEIRS)
        yield found
