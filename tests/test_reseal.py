"""Everything that is sealed is sealed again with the first ENCRYPTION_KEY, while the service goes on."""

import asyncio
import base64
import json
import re
import secrets
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx2
import pytest
from fixtures_api import api, client_of, rows, running
from fixtures_commands import ROOT, run, start
from fixtures_deliveries import receiving, working
from fixtures_endpoints import deliver, register
from fixtures_lanes import add_worker, until, value
from test_api_auth import signed

from api.operator.heartbeat import Heartbeat
from bench.ports import held_ports
from commands.reseal import Run
from commands.sealed import KINDS, Survey, walk
from crypto import Sealer, from_text, hash_key, to_text, verify
from errors import SettingsWrong
from sql.database import Database
from tasks.web.profiles import Profiles
from tasks.web.state_changes import Account

pytestmark = pytest.mark.timeout(180)


def text(number: int) -> str:
    return base64.b64encode(bytes([number]) * 32).decode()


OLD, NEW, OTHER = text(1), text(2), text(3)
BOTH = f"{NEW},{OLD}"
SIGNING = "a-signing-secret-of-ours"
TOKEN = "Bearer for the receiver alone"
PROXY = "http://user:password@proxy.test:3128"
LEASE = "update accounts set leased_by = 'wrk_a', lease_until = now() + interval '1 minute'"
LOGIN = "Default/IndexedDB/https_web.whatsapp.com_0.indexeddb.leveldb/000003.log"


def sealer(keys: str) -> Sealer:
    return Sealer.from_text(keys)


def fingerprint(keys: str) -> str:
    return sealer(keys).fingerprints[0]


async def reseal(url: str, folder: Path, keys: str = BOTH) -> tuple[int, str]:
    return await run("keys", "reseal", DATABASE_URL=url, DATA_DIR=str(folder), ENCRYPTION_KEY=keys)


async def sql(database: Database, statement: str, *values: object) -> None:
    async with database.transaction() as tx:
        await tx.connection.execute(statement, values or None)


def disk(database: Database, folder: Path, keys: str, worker: str = "wrk_a") -> Profiles:
    return Profiles(database, worker, f"home_{folder.name}", folder, sealer(keys))


async def put_away(database: Database, folder: Path, account: str, keys: str) -> None:
    """Have a profile of an account that sleeps."""
    profiles = disk(database, folder, keys)
    await sql(database, f"{LEASE}, linked = true where id = %s", account)
    await profiles.prepare((await database.read(Account, "account_to_drain", account=account, keepalive=0))[0])
    path = profiles.directory(account) / LOGIN
    path.parent.mkdir(parents=True)
    path.write_bytes(account.encode() + secrets.token_bytes(100_000))
    assert await profiles.put_away(account, linked=True)
    await sql(database, "update accounts set profile_home = null, leased_by = null where id = %s", account)


async def woken(database: Database, folder: Path, account: str, keys: str) -> bool:
    """Tell whether the account's login comes back on another disk."""
    await sql(database, LEASE)
    profiles = disk(database, folder, keys)
    await profiles.prepare((await database.read(Account, "account_to_drain", account=account, keepalive=0))[0])
    return (profiles.directory(account) / LOGIN).read_bytes().startswith(account.encode())


async def survey(database: Database, keys: str) -> Survey:
    found = Survey()
    await walk(database, sealer(keys), found)
    return found


async def fill(database: Database, url: str, folder: Path, receiver: str = "http://receiver.test/") -> dict[str, Any]:
    """Have one of everything that is sealed, with the old key; return what was shown of it."""
    async with api(url, encryption_key=OLD) as client:
        endpoint = await register(client, receiver, headers={"Authorization": TOKEN, "X-Plain": "as it was given"})
        rotated = (await client.post(f"/webhooks/{endpoint['id']}/rotate-secret", json={})).json()
        asymmetric = await register(client, receiver, signature="v1a")
        answer = await client.post("/accounts", json={"name": "x", "transport": "web", "proxy": {"url": PROXY}})
        account = answer.json()["id"]
    # As 0.3.0 kept them.
    await sql(
        database,
        """update endpoints set headers = headers || '{"X-Plain": "as it was given"}' where id = %s""",
        endpoint["id"],
    )
    signing = sealer(OLD).seal(SIGNING.encode(), b"key_signed")
    await database.all(
        "create_key", id="key_signed", org="org_default", name="signed", hash=hash_key("k" * 20), signing_secret=signing
    )
    await add_worker(database, "wrk_a")
    await put_away(database, folder, account, OLD)
    await sql(database, "delete from workers")
    return {
        "endpoint": endpoint["id"], "secrets": [rotated["secret"], endpoint["secret"]], "account": account,
        "asymmetric": asymmetric["id"], "public": asymmetric["publicKey"],
    }  # fmt: skip


# --- the whole ---------------------------------------------------------------------------------------------------


@pytest.mark.long
async def test_after_it_the_old_key_may_go_and_everything_opens(
    database: Database, database_url: str, tmp_path: Path
) -> None:
    async with receiving() as (url, got):
        it = await fill(database, database_url, tmp_path / "first", url)
        age = await value(database, "select created_at from profiles")

        code, output = await run("doctor", DATABASE_URL=database_url, DATA_DIR=str(tmp_path), ENCRYPTION_KEY=BOTH)
        assert (code, "WRONG keys      8 values (of 7 secrets and 1 logins) still need an old key" in output) == (
            1,
            True,
        ), output
        code, output = await reseal(database_url, tmp_path)
        assert code == 0, output
        assert output.startswith(f"The key has the fingerprint {fingerprint(NEW)}. ")
        assert "8 of 8 sealed again after " in output
        assert "All 7 secrets and 1 logins are sealed with it" in output
        code, output = await reseal(database_url, tmp_path)
        assert (code, "0 of 0 sealed again" in output) == (0, True), output
        found = await survey(database, NEW)
        assert (found.left, found.closed, found.secrets.all, found.logins.all) == (0, "", 7, 1)

        assert await value(database, "select created_at from profiles") == age, "it is that of the login"
        for kept in (await value(database, "select headers from endpoints where headers <> '{}'")).values():
            assert from_text(kept)

        async with running(database_url, encryption_key=NEW) as app, client_of(app) as client:
            async with client_of(app, x_api_key="k" * 20) as signing:
                headers = signed("/accounts", b'{"name":"y"}', secret=SIGNING)
                assert (await signing.post("/accounts", content=b'{"name":"y"}', headers=headers)).status_code == 201
            changed = await client.patch(f"/webhooks/{it['endpoint']}", json={"headers": {"X-New": "1"}})
            assert changed.json()["headerNames"] == ["Authorization", "X-New", "X-Plain"]
            async with working(database, sealer=sealer(NEW)) as work:
                for endpoint in (it["endpoint"], it["asymmetric"]):
                    assert (await client.post(f"/webhooks/{endpoint}/test")).status_code == 202
                    assert await deliver(database, work, endpoint) == 1
        (first, body), (second, other) = got.got
        assert (first["authorization"], first["x-plain"], first["x-new"]) == (TOKEN, "as it was given", "1")
        assert len(first["webhook-signature"].split()) == 2
        for secret in it["secrets"]:
            check(first, body, secret)
        check(second, other, it["public"])

    await add_worker(database, "wrk_a")
    assert await woken(database, tmp_path / "second", it["account"], NEW)
    proxy = await value(database, "select proxy from accounts where proxy is not null")
    assert json.loads(sealer(NEW).open(bytes(proxy), it["account"].encode()))["url"] == PROXY


def check(headers: dict[str, str], body: bytes, key: str) -> None:
    stamp = headers["webhook-timestamp"]
    verify([key], headers["webhook-id"], stamp, headers["webhook-signature"], body, now=float(stamp))


@pytest.mark.long
async def test_what_no_key_opens_is_named_and_left_and_the_rest_is_done(
    database: Database, database_url: str, tmp_path: Path
) -> None:
    it = await fill(database, database_url, tmp_path / "first")
    await sql(database, "update profiles set sealed = %s", sealer(OTHER).seal(b"\x28\xb5\x2f\xfd login", b"x:1"))
    await sql(database, "update endpoint_secrets set secret = %s", sealer(OTHER).seal(b"x", it["endpoint"].encode()))
    before = await rows(database, "select sealed, secret from profiles, endpoint_secrets")
    code, output = await reseal(database_url, tmp_path)
    assert code == 1
    named = f"opens an old secret of {it['endpoint']}, the login of {it['account']}: add the key"
    assert named in output, output
    assert await rows(database, "select sealed, secret from profiles, endpoint_secrets") == before
    found = await survey(database, NEW)
    assert (found.left, len(found.secrets.closed), len(found.logins.closed)) == (0, 1, 1)
    code, output = await run("doctor", DATABASE_URL=database_url, DATA_DIR=str(tmp_path), ENCRYPTION_KEY=NEW)
    assert (code, f"WRONG keys      No key of ENCRYPTION_KEY {named}" in output) == (1, True), output

    # Nobody opens the secret of what is deleted, nor an old one whose time is over.
    await sql(database, "update endpoint_secrets set expires_at = now()")
    await sql(database, "delete from profiles")
    code, output = await reseal(database_url, tmp_path)
    assert (code, "6 secrets and 0 logins" in output) == (0, True), output


# --- who lives ---------------------------------------------------------------------------------------------------


@pytest.mark.long
async def test_it_names_those_who_do_not_seal_with_the_first_key(
    database: Database, database_url: str, tmp_path: Path
) -> None:
    await fill(database, database_url, tmp_path / "first")
    await add_worker(database, "wrk_old")
    async with (
        running(database_url, encryption_key=f"{OLD},{NEW}") as app,
        running(database_url, encryption_key=BOTH),
        Database(database_url, name="postrider api") as old_api,
    ):
        await old_api.one("database_time")
        code, output = await reseal(database_url, tmp_path)
        (line,) = [line for line in output.splitlines() if line.startswith("postrider: ")]
        assert code == 1
        assert line.count(";") == 2, line
        own = app.state.heartbeat
        for name in (
            rf"API {own.id} on {own.host} \(last seen \d+ s ago\) seals with {fingerprint(OLD)}, and has it",
            r"an API on this machine is too old to report its keys",
            r"worker wrk_old on here \(last seen \d+ s ago\) is too old to report its keys \(0\.2\.0\)",
        ):
            assert re.search(name, line), line
    assert (await survey(database, BOTH)).left == 8
    assert await value(database, "select count(*) from sealing_keys") == 0
    await sql(database, "delete from workers where id = 'wrk_old'")
    code, output = await reseal(database_url, tmp_path)
    assert code == 0, output


async def test_whoever_has_been_silent_for_long_does_not_count(database: Database) -> None:
    for worker in ("wrk_a", "wrk_gone"):
        await add_worker(database, worker)
        await database.all("sign_api", id=worker, host="", version="", fingerprints=[fingerprint(OLD)])
    await sql(database, "update workers set renewed_at = now() - interval '1 day' where id = 'wrk_gone'")
    await sql(database, "update api_processes set renewed_at = now() - interval '1 day' where id = 'wrk_gone'")
    # After a restart of Postgres everybody has been silent, and counts.
    young = await value(database, "select extract(epoch from now() - pg_postmaster_start_time())::float8")
    values = {"fingerprint": fingerprint(NEW)}
    found = await database.all("unready_processes", **values, silent=young / 2, silent_api=young / 2)
    assert [(row["role"], row["id"]) for row in found] == [("API", "wrk_a"), ("worker", "wrk_a")]
    found = await database.all("unready_processes", **values, silent=young * 2 + 60, silent_api=young * 2 + 60)
    assert len(found) == 4


@pytest.mark.long
async def test_whoever_lacks_the_key_does_not_start_afterwards(database_url: str, tmp_path: Path) -> None:
    assert (await reseal(database_url, tmp_path, NEW))[0] == 0
    environment = {"DATABASE_URL": database_url, "DATA_DIR": str(tmp_path)}
    commands = (["api"], ["worker"], ["keys", "create", "shop", "--signed"])
    ends = await asyncio.gather(*(run(*command, ENCRYPTION_KEY=OLD, **environment) for command in commands))
    for code, output in ends:
        assert (code, "Traceback" in output) == (1, False), output
        (line,) = [line for line in output.splitlines() if line.startswith("postrider: ")]
        assert line.startswith(f"postrider: ENCRYPTION_KEY lacks the key with the fingerprint {fingerprint(NEW)}")
    async with api(database_url, encryption_key=f"{OTHER},{NEW}") as client:
        assert (await client.get("/accounts")).status_code == 200
    # The key is lost: whoever says so goes on without.
    assert (await reseal(database_url, tmp_path, OTHER))[0] == 0
    async with api(database_url, encryption_key=OTHER) as client:
        assert (await client.get("/accounts")).status_code == 200


async def test_an_api_that_comes_back_without_the_key_ends(database: Database, database_url: str) -> None:
    heartbeat = Heartbeat(database, "api_1", "here", "0", [fingerprint(OLD)], beat=0.01)
    async with heartbeat.kept():
        await until(database, "select fingerprints[1] from api_processes", fingerprint(OLD))
        await database.all("need_key", fingerprint=fingerprint(NEW))
        async with asyncio.timeout(10):
            await heartbeat.fatal.wait()
    assert await rows(database, "select from api_processes") == []
    with pytest.raises(SettingsWrong, match="lacks the key"):
        async with running(database_url, encryption_key=OLD):
            pass


@pytest.mark.long
@pytest.mark.parametrize(("command", "table"), [("api", "api_processes"), ("worker", "workers")])
async def test_a_program_that_comes_back_without_the_key_ends_with_code_1(
    command: str, table: str, database: Database, database_url: str, tmp_path: Path
) -> None:
    api_port, worker_port = (str(port) for port in held_ports(2))
    process = await start(
        command, DATABASE_URL=database_url, DATA_DIR=str(tmp_path), ENCRYPTION_KEY=OLD, PORT=api_port,
        WORKER_PORT=worker_port,
    )  # fmt: skip
    await until(database, f"select fingerprints[1] from {table}", fingerprint(OLD), seconds=60)  # ours
    await database.all("need_key", fingerprint=fingerprint(NEW))
    output, _ = await process.communicate()
    assert (process.returncode, b"lacks the key" in output, b"Traceback" in output) == (1, True, False), output


# --- beside the traffic ------------------------------------------------------------------------------------------


async def test_a_newer_seal_wins(database: Database, database_url: str, tmp_path: Path) -> None:
    it = await fill(database, database_url, tmp_path / "first")
    run = Run(database, sealer(BOTH))
    async with running(database_url, encryption_key=BOTH) as app, client_of(app) as client:
        # What somebody is writing is left for the next round.
        async with Database(database_url) as other, other.transaction() as tx:
            await tx.connection.execute("select from endpoints for update")
            found = Survey()
            await walk(database, sealer(BOTH), found, renew=True)
            assert (found.left, found.written) == (8, 4)
            assert (await survey(database, BOTH)).left == 4, "two secrets and two headers"
        rotating = asyncio.create_task(rotate(client, [it["endpoint"]], 5))
        await run.to_the_end()
        (shown,) = (await rotating).values()
        newest = await value(database, "select secret from endpoints where id = %s", it["endpoint"])
    assert sealer(NEW).open(bytes(newest), it["endpoint"].encode()).decode() == shown
    assert (await survey(database, NEW)).left == 0


async def rotate(client: httpx2.AsyncClient, endpoints: Iterable[str], times: int = 1) -> dict[str, str]:
    """Give each a new secret again and again; return the last of each."""
    shown: dict[str, str] = {}
    for endpoint in endpoints:
        for _ in range(times):
            answer = await client.post(f"/webhooks/{endpoint}/rotate-secret", json={"overlapSeconds": 0})
            shown[endpoint] = answer.json()["secret"]
    return shown


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.write)
async def test_nothing_is_written_over_what_was_not_read(
    kind: Any, database: Database, database_url: str, tmp_path: Path
) -> None:
    await fill(database, database_url, tmp_path / "first")
    before = await database.all(kind.read, after=kind.begin, most=9)
    ids = [row["id"] for row in before]
    stale: list[object] = [
        json.dumps({"X": to_text(b"other")}) if isinstance(row["sealed"], str) else b"other" for row in before
    ]
    fresh: list[object] = ["{}" if isinstance(row["sealed"], str) else b"fresh" for row in before]
    assert await database.all(kind.write, ids=ids, stale=stale, fresh=fresh) == []
    assert await database.all(kind.read, after=kind.begin, most=9) == before
    kept = [row["sealed"] for row in before]
    assert len(await database.all(kind.write, ids=ids, stale=kept, fresh=fresh)) == len(before) > 0


async def test_a_login_that_was_stored_meanwhile_wins(database: Database, database_url: str, tmp_path: Path) -> None:
    it = await fill(database, database_url, tmp_path / "first")
    (row,) = await database.all("sealed_profiles", after="", most=9, head=29)
    newer = sealer(OLD).seal(b"\x28\xb5\x2f\xfd newer", f"{it['account']}:1".encode())
    await sql(database, "update profiles set sealed = %s", newer)
    values = {"id": row["id"], "head": 29, "stale": row["head"]}
    assert await database.all("profile_to_reseal", **values) == []
    assert await database.all("reseal_profile", **values, generation=row["generation"], fresh=b"older") == []
    run = Run(database, sealer(BOTH))
    await run.to_the_end()
    sealed = await value(database, "select sealed from profiles")
    assert sealer(NEW).open(bytes(sealed), f"{it['account']}:1".encode()).endswith(b"newer")


MANY = 2000
INSERT = """
with lane as (
    insert into lanes (id, org_id, kind, queue)
    select id, 'org_default', 'endpoint', 'endpoint' from unnest(%(ids)s::text[]) as id returning id
)
insert into endpoints (id, org_id, url, events, secret, headers)
select id, 'org_default', 'http://receiver.test/', '{}', secret, headers::jsonb
from unnest(%(ids)s::text[], %(secrets)s::bytea[], %(headers)s::text[]) as given (id, secret, headers)
"""


async def many(database: Database, count: int = MANY) -> list[str]:
    """Have many endpoints, sealed with the old key."""
    ids, old = [f"whe_{number:05}" for number in range(count)], sealer(OLD)
    headers = [json.dumps({"X-Id": to_text(old.seal(one.encode(), f"{one}/X-Id".encode()))}) for one in ids]
    values = {"ids": ids, "secrets": [old.seal(f"of {one}".encode(), one.encode()) for one in ids], "headers": headers}
    async with database.transaction() as tx:
        await tx.connection.execute(INSERT, values)
    return ids


@pytest.mark.long
async def test_it_may_be_killed_at_any_moment_and_run_again(
    database: Database, database_url: str, tmp_path: Path
) -> None:
    ids = await many(database)
    changed = "select count(*) > 0 from endpoints where xmin <> %s::text::xid"
    first = await value(database, "select xmin::text from endpoints limit 1")
    process = await start("keys", "reseal", DATABASE_URL=database_url, DATA_DIR=str(tmp_path), ENCRYPTION_KEY=BOTH)
    async with asyncio.timeout(60):
        while not await value(database, changed, first):
            await asyncio.sleep(0.001)
    with suppress(ProcessLookupError):
        process.kill()
    await process.communicate()
    half = await survey(database, BOTH)
    assert half.left < 2 * MANY
    async with running(database_url, encryption_key=BOTH) as app, client_of(app) as client:
        again, rotated = await asyncio.gather(reseal(database_url, tmp_path), rotate(client, ids[::40]))
        assert again[0] == 0, again[1]
    kept = {row["id"]: bytes(row["sealed"]) for row in await database.all("sealed_endpoints", after="", most=MANY)}
    new = sealer(NEW)
    for one in ids:
        assert new.open(kept[one], one.encode()).decode() == rotated.get(one, f"of {one}")
    found = await survey(database, NEW)
    assert (found.left, found.closed, found.secrets.all) == (0, "", 2 * MANY)


# --- a key that is missing ---------------------------------------------------------------------------------------


async def test_what_was_sealed_with_a_key_that_is_missing_is_a_503_that_says_so(
    database: Database, database_url: str, tmp_path: Path
) -> None:
    it = await fill(database, database_url, tmp_path / "first")
    await database.all("need_key", fingerprint=fingerprint(OTHER))
    async with running(database_url, encryption_key=OTHER) as app, client_of(app) as client:
        async with client_of(app, x_api_key="k" * 20) as signing:
            body = b'{"name":"y"}'
            answers = [await signing.post("/accounts", content=body, headers=signed("/accounts", body, secret=SIGNING))]
            assert (await signing.get("/accounts")).status_code == 200
        path = f"/webhooks/{it['endpoint']}"
        answers.append(await client.patch(path, json={"headers": {"X-New": "1"}}))
        await sql(database, """update endpoints set headers = '{"X": "sealed:?"}'""")
        answers.append(await client.patch(path, json={"headers": {"X-New": "1"}}))
        for answer in answers:
            assert (answer.status_code, answer.json()["code"]) == (503, "encryption_key_missing"), answer.text
            assert answer.headers["retry-after"] == "60"
        # Everything that opens nothing goes on.
        assert (await client.get(path)).status_code == 200
        assert (await client.patch(path, json={"headers": None})).status_code == 200
        assert (await client.post(f"{path}/test")).status_code == 202
        assert (await client.post(f"{path}/rotate-secret", json={})).status_code == 200
        changed = await client.patch(f"/accounts/{it['account']}", json={"proxy": None})
        assert (changed.status_code, changed.json()["proxy"]) == (200, None)


def test_the_api_opens_in_one_place() -> None:
    opening = [path.name for path in (ROOT / "api").rglob("*.py") if "sealer.open(" in path.read_text()]
    assert opening == ["unsealing.py"]
