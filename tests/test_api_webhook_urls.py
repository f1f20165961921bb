"""Which URLs may be registered: by the same rules that deliveries go by, and with one text for all that may not."""

import threading
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace

import httpx2
import pytest
from fixtures_api import client_of, production, rows, running
from fixtures_sockets import resolver
from test_addresses import CLOSED_V4, CLOSED_V6, WELL_KNOWN, dresses

from addresses import Address
from api.http.models import shown
from api.webhooks import webhook_urls
from resolver import Resolver
from sql.database import Database


@asynccontextmanager
async def registering(
    url: str, names: Mapping[str, Sequence[str]] | Resolver | None = None, **values: str
) -> AsyncIterator[httpx2.AsyncClient]:
    """A client of an app to which DNS has these names."""
    async with running(url, (), **values) as app, client_of(app) as client:
        made = names if isinstance(names, Resolver) else resolver(names or {})
        app.state.context = replace(app.state.context, resolver=made)
        yield client


async def register(client: httpx2.AsyncClient, url: str) -> tuple[int, str]:
    """Return the status, and of a refusal what is said of the field url, with the URL itself taken out."""
    answer = await client.post("/webhooks", json={"url": url})
    if answer.status_code == 201:
        return 201, ""
    [error] = answer.json()["errors"]
    assert error["field"] == "url"
    assert shown(url) in error["message"], "the value is named"
    return answer.status_code, error["message"].replace(shown(url), "…")


CLOSED = (
    "must lead to a public address, at port 80, 443 or an ordinary one from 1024 on, or into a network that "
    "WEBHOOK_ALLOW_CIDRS allows, not …"
)
REFUSED = (422, CLOSED)


async def test_what_is_inside_is_refused_with_one_text(database_url: str, database: Database) -> None:
    literals = [*WELL_KNOWN, *(last for _, last in CLOSED_V4 + CLOSED_V6)]
    literals += [str(dressed) for text in ("10.0.0.1", "169.254.169.254") for dressed in dresses(text).values()]
    hosts = [f"[{text}]" if ":" in text else text for text in literals]
    hosts += [
        "127.1",
        "2130706433",
        "0x7f.1",
        "017700000001",
        "127.0.0.1.",
        "inside.test",
        "mixed.test",
        "rev.mixed.test",
    ]
    names = {"inside.test": ["10.0.0.1"], "mixed.test": ["8.8.8.8", "::1"], "rev.mixed.test": ["::1", "8.8.8.8"]}
    async with registering(database_url, names, **production(database_url)) as client:
        said = {host: await register(client, f"https://{host}/hook") for host in hosts}
        ports = {port: await register(client, f"https://8.8.8.8:{port}/") for port in (22, 25, 81, 6000, 6667, 10080)}
        ports[26] = await register(client, "https://has.no.address.test:26/")
    assert said == dict.fromkeys(hosts, REFUSED)
    assert ports == dict.fromkeys(ports, REFUSED)
    assert len(hosts) > 70
    assert await rows(database, "select from endpoints") == []


async def test_what_is_public_is_registered_and_so_is_a_name_that_has_no_address_yet(database_url: str) -> None:
    names = {"shop.test": ["8.8.8.8", "2606:4700::1111"], "xn--rksmrgs-5wao1o.test": ["1.1.1.1"]}
    urls = [
        "https://shop.test/", "https://shop.test:8443/", "http://shop.test:80/?x=1", "HTTPS://SHOP.TEST/",
        "https://xn--rksmrgs-5wao1o.test/", "https://8.8.8.8/", "https://134744072/", "https://[2606:4700::1111]:443/",
        "https://[::ffff:8.8.8.8]/", "https://not.there.test/", "https://a_b.test/", "http://shop.test",
    ]  # fmt: skip
    async with registering(database_url, names) as client:
        assert [await register(client, url) for url in urls] == [(201, "")] * len(urls)


async def test_a_name_whose_dns_is_silent_is_registered(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(webhook_urls, "LOOKUP", 0.05)
    go = threading.Event()

    def ask(_: str) -> list[Address]:
        go.wait(60)
        return []

    async with registering(database_url, Resolver(ask)) as client:
        assert await register(client, "https://silent.test/") == (201, "")
        go.set()


async def test_development_lets_in_loopback_and_production_what_it_is_told(database_url: str) -> None:
    names = {"office.test": ["10.1.2.3"], "home.test": ["127.0.0.1", "::1"]}
    urls = ["https://office.test/", "https://home.test:9/", "https://127.0.0.1:22/", "https://10.2.0.1/", "https://0/"]
    allowed = {"webhook_allow_cidrs": "10.1.0.0/16,fd12::/16"}
    for values, statuses in (
        ({}, [422, 201, 201, 422, 422]),
        (allowed, [201, 422, 422, 422, 422]),
        (production(database_url), [422] * 5),
        (production(database_url) | allowed, [201, 422, 422, 422, 422]),
    ):
        async with registering(database_url, names, **values) as client:
            assert [(await register(client, url))[0] for url in urls] == statuses, values


@pytest.mark.parametrize(
    "url",
    [
        "http://user@shop.test/", "http://:secret@shop.test/", "http://@shop.test/", "http://shop.test@127.0.0.1/",
        "http://shop.test\\@127.0.0.1/", "http://shop.test#@127.0.0.1/", "http://%31%32%37.0.0.1/", "http://[fe80::1%25lo]/",
        "http://127.0.0.01/", "http://0177.0.0.1/", "http://1.2.3.256/", "http://127。0。0。1/", "http://[::1/", "http://[]/",
        "http://shop.test:0/", "http://shop.test:65536/", "http://shop.test:-1/", "http://:80/", "http:///x", "http:x",
        "http://[::1]x/", "unix:///run/docker.sock", "file:///etc/passwd", "gopher://shop.test/", "ws://shop.test/",
        "http://shop.test/\x7f", "http://shop.test/\u00e9",
    ],
)  # fmt: skip
def test_a_url_that_could_be_read_in_two_ways_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match=r"^must be an http or https URL without user, password and fragment, not "):
        webhook_urls.well_formed(url)
