"""What receivers get, and verify it with: signatures, secrets and their rotation, extra headers."""

import asyncio
import time
from collections.abc import AsyncIterator, Sequence

import httpx2
import pytest
from fixtures_api import api, rows
from fixtures_deliveries import Scripted, receiving
from fixtures_endpoints import SEALER, deliver, delivering, happen, register
from fixtures_history import keep_up
from fixtures_lanes import value

from crypto import CryptoError, verify
from errors import SecretUnreadable
from sql.database import Database
from tasks.delivery.lane import DeliveryWork

WEEK = 604_800


@pytest.fixture
async def client(database_url: str) -> AsyncIterator[httpx2.AsyncClient]:
    async with api(database_url) as client:
        yield client


@pytest.fixture
async def work(database: Database) -> AsyncIterator[DeliveryWork]:
    async with delivering(database) as work:
        yield work


async def rotate(client: httpx2.AsyncClient, endpoint: str, seconds: int | None = None) -> httpx2.Response:
    body = {} if seconds is None else {"overlapSeconds": seconds}
    return await client.post(f"/webhooks/{endpoint}/rotate-secret", json=body)


async def signed(
    client: httpx2.AsyncClient, database: Database, work: DeliveryWork, endpoint: str, got: Scripted
) -> str:
    """Let a request be made to an endpoint; return its header webhook-signature."""
    assert (await client.post(f"/webhooks/{endpoint}/test")).status_code == 202
    assert await deliver(database, work, endpoint) == 1
    return got.got[-1][0]["webhook-signature"]


def fits(got: Scripted, key: str, signature: str) -> bool:
    """Tell whether this one signature of the last request is the key's."""
    headers, body = got.got[-1]
    stamp = headers["webhook-timestamp"]
    try:
        verify([key], headers["webhook-id"], stamp, signature, body, now=float(stamp))
    except CryptoError:
        return False
    return True


def fit(got: Scripted, keys: Sequence[str], signatures: str) -> list[bool]:
    """Tell for each signature of the last request whether it is that of the key in its place."""
    return [fits(got, key, signature) for key, signature in zip(keys, signatures.split(" "), strict=True)]


# --- v1a ---------------------------------------------------------------------------------------------------------


async def test_v1a_shows_its_public_key_always_and_its_private_key_never(
    client: httpx2.AsyncClient, database: Database, work: DeliveryWork
) -> None:
    async with receiving() as (url, got):
        endpoint = await register(client, url, signature="v1a")
        signatures = await signed(client, database, work, endpoint["id"], got)
    shown = (await client.get(f"/webhooks/{endpoint['id']}")).json()
    assert (endpoint["secret"], "secret" in shown) == (None, False)
    assert shown["publicKey"] == endpoint["publicKey"]
    assert (await client.get("/webhooks")).json()["items"] == [shown]
    assert signatures.startswith("v1a,")
    assert fit(got, [endpoint["publicKey"]], signatures) == [True]
    [(sealed,)] = await rows(database, "select secret from endpoints")
    assert SEALER.open(sealed, endpoint["id"].encode()).startswith(b"whsk_")
    assert b"whsk_" not in sealed


# --- rotation ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("signature", ["v1", "v1a"])
async def test_during_a_rotation_new_and_old_secrets_sign_the_newest_first(
    client: httpx2.AsyncClient,
    database: Database,
    work: DeliveryWork,
    signature: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    shown = "secret" if signature == "v1" else "publicKey"
    async with receiving() as (url, got):
        first = await register(client, url, signature=signature)
        endpoint = first["id"]
        keys = [first[shown]]
        right = time.time
        # Postgres's clock decides; this machine's may be wrong.
        monkeypatch.setattr(time, "time", lambda: right() + WEEK)
        for seconds in (WEEK, None, 60):
            answer = await rotate(client, endpoint, seconds)
            assert answer.status_code == 200
            keys.insert(0, answer.json()[shown])
        assert len(set(keys)) == 4
        signatures = await signed(client, database, work, endpoint, got)
        assert fit(got, keys, signatures) == [True] * 4
        lasts = (
            "select array_agg(extract(epoch from expires_at - created_at)::integer order by id) from endpoint_secrets"
        )
        assert await value(database, lasts) == [WEEK, 86_400, 60]
        old = [bytes(row[0]) for row in await rows(database, "select secret from endpoint_secrets")]
        assert all(SEALER.open(sealed, endpoint.encode()).startswith(b"wh") for sealed in old)

        # The second of them ends: it signs no more, and is deleted at the next turn of upkeep.
        await rows(database, "update endpoint_secrets set expires_at = now() where id = 2 returning id")
        keys.remove(keys[2])
        assert fit(got, keys, await signed(client, database, work, endpoint, got)) == [True] * 3
        await keep_up(database)
        assert await rows(database, "select id from endpoint_secrets order by id") == [(1,), (3,)]

        newest = (await rotate(client, endpoint, 0)).json()
        assert newest["oldSecretsUntil"] is None
        assert await rows(database, "select from endpoint_secrets") == []
        assert fit(got, [newest[shown]], await signed(client, database, work, endpoint, got)) == [True]


async def test_until_when_old_secrets_sign_is_shown(client: httpx2.AsyncClient, database: Database) -> None:
    endpoint = (await register(client))["id"]
    await rotate(client, endpoint, 3600)
    answer = (await rotate(client, endpoint, 60)).json()
    shown = (await client.get(f"/webhooks/{endpoint}")).json()
    last = 'select to_char(max(expires_at), \'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"\') from endpoint_secrets'
    assert [answer["oldSecretsUntil"], shown["oldSecretsUntil"]] == [await value(database, last)] * 2
    await rows(database, "update endpoint_secrets set expires_at = now() returning id")
    assert (await client.get(f"/webhooks/{endpoint}")).json()["oldSecretsUntil"] is None


async def test_at_most_five_old_secrets_sign(client: httpx2.AsyncClient, database: Database) -> None:
    endpoint = (await register(client))["id"]
    answers = await asyncio.gather(*(rotate(client, endpoint, 60) for _ in range(8)))
    assert sorted(answer.status_code for answer in answers) == [200] * 5 + [409] * 3
    refused = next(answer for answer in answers if answer.status_code == 409)
    assert "5 old secrets" in refused.json()["detail"]
    assert "overlapSeconds 0" in refused.json()["detail"]
    assert (await client.patch(f"/webhooks/{endpoint}", json={"signature": "v1a"})).status_code == 409
    assert (await client.get(f"/webhooks/{endpoint}")).json()["signature"] == "v1"
    await rows(database, "update endpoint_secrets set expires_at = now() where id = 1 returning id")
    assert (await rotate(client, endpoint, 60)).status_code == 200
    assert (await rotate(client, endpoint, 60)).status_code == 409
    assert (await rotate(client, endpoint, 0)).status_code == 200


async def test_secrets_of_one_endpoint_sign_for_no_other(
    client: httpx2.AsyncClient, database: Database, work: DeliveryWork
) -> None:
    async with receiving() as (url, got):
        first, second = [await register(client, url) for _ in range(2)]
        await rotate(client, first["id"])
        assert fit(got, [second["secret"]], await signed(client, database, work, second["id"], got)) == [True]
        await rotate(client, second["id"], 0)
        assert len((await signed(client, database, work, first["id"], got)).split(" ")) == 2


async def test_another_signature_comes_with_a_key_of_its_own_and_the_old_one_signs_for_a_day(
    client: httpx2.AsyncClient, database: Database, work: DeliveryWork
) -> None:
    async with receiving() as (url, got):
        first = await register(client, url)
        path = f"/webhooks/{first['id']}"
        second = (await client.patch(path, json={"signature": "v1a"})).json()
        assert (second["signature"], second["secret"]) == ("v1a", None)
        signatures = await signed(client, database, work, first["id"], got)
        assert fit(got, [second["publicKey"], first["secret"]], signatures) == [True] * 2
        same = (await client.patch(path, json={"signature": "v1a"})).json()
        assert same == second
        third = (await client.patch(path, json={"signature": "v1"})).json()
        assert (third["signature"], third["publicKey"]) == ("v1", None)
        signatures = await signed(client, database, work, first["id"], got)
        assert [one.partition(",")[0] for one in signatures.split(" ")] == ["v1", "v1a", "v1"]
        assert fit(got, [third["secret"], second["publicKey"], first["secret"]], signatures) == [True] * 3
    ends = "select array_agg(round(extract(epoch from expires_at - created_at))::integer) from endpoint_secrets"
    assert await value(database, ends) == [86_400, 86_400]


@pytest.mark.parametrize("seconds", [-1, WEEK + 1, "60", 1.5, None, True, []])
async def test_an_overlap_that_is_none_is_refused(client: httpx2.AsyncClient, seconds: object) -> None:
    endpoint = (await register(client))["id"]
    answer = await client.post(f"/webhooks/{endpoint}/rotate-secret", json={"overlapSeconds": seconds})
    assert (answer.status_code, answer.json()["errors"][0]["field"]) == (422, "overlapSeconds")
    assert (await client.post("/webhooks/whe_none/rotate-secret")).status_code == 404
    assert (await client.post(f"/webhooks/{endpoint}/rotate-secret")).json()["oldSecretsUntil"] is not None


async def test_an_old_secret_that_cannot_be_opened_uses_up_no_attempt(
    client: httpx2.AsyncClient, database: Database, work: DeliveryWork
) -> None:
    async with receiving() as (url, got):
        endpoint = (await register(client, url))["id"]
        await rotate(client, endpoint)
        await rows(database, "update endpoint_secrets set secret = 'sealed by another key' returning id")
        await client.post(f"/webhooks/{endpoint}/test")
        assert await deliver(database, work, endpoint) == 1
    assert got.got == []
    assert await value(database, "select last_error from deliveries") == SecretUnreadable().detail
    assert await value(database, "select attempts from deliveries") == 0


# --- extra headers -----------------------------------------------------------------------------------------------


async def test_extra_headers_arrive_whatever_may_be_in_them(
    client: httpx2.AsyncClient, database: Database, work: DeliveryWork
) -> None:
    extras = {
        "Authorization": "Bearer " + "x" * 2000,
        "X-Empty": "",
        "!#$%&'*+-.^_`|~09az": "".join(chr(code) for code in range(0x21, 0x7F)),
        "x" * 100: "a b" * 1300,
        **{f"x-{number}": str(number) for number in range(16)},
    }
    async with receiving() as (url, got):
        endpoint = (await register(client, url, headers=extras))["id"]
        await happen(client, "a")
        assert await deliver(database, work, endpoint) == 1
        await client.patch(f"/webhooks/{endpoint}", json={"headers": None})
        await happen(client, "b")
        assert await deliver(database, work, endpoint) == 1
    (first, _), (second, _) = got.got
    assert {name.lower(): text for name, text in extras.items()}.items() <= first.items()
    assert not {name.lower() for name in extras} & second.keys()
    ours = {"content-type": "application/json", "user-agent": "Postrider", "accept-encoding": "identity"}
    assert ours.items() <= first.items()
