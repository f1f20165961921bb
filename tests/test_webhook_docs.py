"""The examples of docs/webhooks.md, run against requests as they are really sent, and against bad ones."""

import asyncio
import base64
import hmac
import importlib.util
import json
import os
import re
import shutil
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, replace
from pathlib import Path

import httpx2
import pytest
from fixtures_api import api, new_account
from fixtures_deliveries import receiving
from fixtures_endpoints import deliver, delivering, register
from starlette.responses import Response

import crypto
from commands import reference
from crypto import CryptoError, new_secret, new_webhook_keys
from sql.database import Database

VERIFY = reference.ROOT / "docs" / "verify"


@dataclass(frozen=True)
class Case:
    """A request as a receiver has it, and whether it is good."""

    name: str
    good: bool
    keys: list[str]
    headers: dict[str, str]
    body: bytes
    now: int

    def wire(self) -> dict[str, object]:
        """Return it as JSON can have it."""
        return {
            "keys": self.keys,
            "headers": self.headers,
            "body": base64.b64encode(self.body).decode(),
            "now": self.now,
        }


@pytest.fixture
async def client(database_url: str) -> AsyncIterator[httpx2.AsyncClient]:
    async with api(database_url) as client:
        yield client


# --- requests ----------------------------------------------------------------------------------------------------


async def real(client: httpx2.AsyncClient, database: Database, signature: str) -> list[Case]:
    """Have an event delivered before and after a rotation; return the two requests, with the newest key."""
    account = await new_account(client)
    shown = "secret" if signature == "v1" else "publicKey"
    cases = []
    async with receiving() as (url, got), delivering(database) as work:
        endpoint = await register(client, url, signature=signature)
        keys = [endpoint[shown]]
        for number in range(2):
            metadata = {"note": "é😀\u2028", "quote": '"\\'}
            order = {"phone": "15551230001", "message": f"{number}", "idempotencyKey": f"{signature}-{number}"}
            await client.post("/send", json={**order, "account": account, "metadata": metadata})
            await client.delete(f"/jobs/{signature}-{number}")
            assert await deliver(database, work, endpoint["id"]) == 1
            headers, body = got.got[-1]
            stamp = int(headers["webhook-timestamp"])
            cases.append(
                Case(f"{signature} {number}", good=True, keys=list(keys), headers=headers, body=body, now=stamp)
            )
            rotated = (await client.post(f"/webhooks/{endpoint['id']}/rotate-secret")).json()
            keys.insert(0, rotated[shown])
    return cases


def variants(first: Case, rotated: Case) -> list[Case]:
    """Return the two, and what becomes good or bad of them."""
    new, old = rotated.keys
    other = new_secret("whsec_") if old.startswith("whsec_") else new_webhook_keys()[1]
    stranger = new_webhook_keys()[1] if old.startswith("whsec_") else new_secret("whsec_")
    scheme, text = first.headers["webhook-signature"].split(",")
    swapped = "v1a" if scheme == "v1" else "v1"
    good = [
        first,
        replace(rotated, name="rotated, new key", keys=[new]),
        replace(rotated, name="rotated, old key", keys=[old]),
        replace(first, name="among other keys", keys=[stranger, other, *first.keys]),
        replace(first, name="five minutes ago", now=first.now + 300),
        replace(first, name="in five minutes", now=first.now - 300),
        changed(first, "among other signatures", **{"webhook-signature": f"v1,x v1a,x v2,{text} x {scheme},{text}"}),
    ]
    bad = [
        replace(first, name="wrong key", keys=[other]),
        replace(first, name="key of another scheme", keys=[stranger]),
        replace(first, name="no key", keys=[]),
        *(
            replace(forged(first, key), name=f"empty secret {key!r}", keys=[key])
            for key in ("whsec_", "whsec_%%%%", "whsec_====")
        ),
        replace(first, name="key of before the rotation ended", keys=[new]),
        replace(first, name="changed byte", body=first.body.replace(b"Cancelled", b"Cancellee")),
        replace(first, name="missing byte", body=first.body[:-1]),
        replace(first, name="parsed and written again", body=json.dumps(json.loads(first.body)).encode()),
        replace(first, name="no body", body=b""),
        replace(first, name="old", now=first.now + 301),
        replace(first, name="of the future", now=first.now - 301),
        replace(first, name="no headers", headers={}),
        changed(first, "new timestamp", **{"webhook-timestamp": str(first.now + 1)}),
        changed(first, "a timestamp that is none", **{"webhook-timestamp": "soon"}),
        changed(first, "a timestamp that is long", **{"webhook-timestamp": "9" * 400}),
        changed(first, "a negative timestamp", **{"webhook-timestamp": f"-{first.now}"}),
        changed(first, "another id", **{"webhook-id": "evt_other"}),
        *(
            changed(first, f"signature {signature!r}", **{"webhook-signature": signature})
            for signature in (
                "", " ", ",", "v1", "v1,", "v1a,", "v1,,", "x", f"{swapped},{text}", f"v2,{text}", text,
                f"{scheme},{text.rstrip('=')}", f"{scheme},{text[:-4]}", f"{scheme},{text},", f"{scheme}, {text}",
                "* ? [a]",
            )
        ),
    ]  # fmt: skip
    return good + [replace(case, good=False) for case in bad]


def forged(case: Case, key: str) -> Case:
    """Sign as anybody can whose receiver has an empty secret."""
    content = f"{case.headers['webhook-id']}.{case.now}.".encode() + case.body
    text = base64.b64encode(hmac.digest(b"", content, "sha256")).decode()
    return changed(case, key, **{"webhook-signature": f"v1,{text}"})


def changed(case: Case, name: str, **headers: str) -> Case:
    return replace(case, name=name, headers=case.headers | headers)


# --- languages ---------------------------------------------------------------------------------------------------


async def run(*command: str | Path, stdin: str = "", cwd: Path | None = None, **env: str) -> tuple[int, str, str]:
    """Run a program to its end; return its exit code and what it wrote to stdout and stderr."""
    process = await asyncio.create_subprocess_exec(
        *command, cwd=cwd, env=os.environ | env,
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    out, err = await process.communicate(stdin.encode())
    assert process.returncode is not None
    return process.returncode, out.decode(), err.decode()


async def verdicts(cases: list[Case], *command: str | Path, cwd: Path | None = None, **env: str) -> list[bool]:
    """Hand the cases to a program that reads them as JSON and writes a list of verdicts."""
    code, out, err = await run(*command, stdin=json.dumps([case.wire() for case in cases]), cwd=cwd, **env)
    assert code == 0, err
    found: list[bool] = json.loads(out)
    return found


async def by_us(cases: list[Case], _: Path) -> list[bool]:
    def good(case: Case) -> bool:
        names = ("webhook-id", "webhook-timestamp", "webhook-signature")
        message, stamp, signatures = (case.headers.get(name, "") for name in names)
        try:
            crypto.verify(case.keys, message, stamp, signatures, case.body, now=case.now)
        except CryptoError:
            return False
        return True

    return [good(case) for case in cases]


async def by_python(cases: list[Case], _: Path) -> list[bool]:
    spec = importlib.util.spec_from_file_location("example", VERIFY / "verify.py")
    assert spec
    assert spec.loader
    example = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(example)

    def good(case: Case) -> bool:
        try:
            example.verify(case.keys, case.headers, case.body, case.now)
        except ValueError:
            return False
        return True

    return [good(case) for case in cases]


NODE = """
import { readFileSync } from "node:fs";
const { verify } = await import(process.env.EXAMPLE);
console.log(JSON.stringify(JSON.parse(readFileSync(0)).map(({ keys, headers, body, now }) => {
  try { verify(keys, headers, Buffer.from(body, "base64"), now); } catch (error) {
    if (error.constructor !== Error) throw error;
    return false;
  }
  return true;
})));
"""


async def by_node(cases: list[Case], _: Path) -> list[bool]:
    return await verdicts(cases, "node", "--input-type=module", "--eval", NODE, EXAMPLE=str(VERIFY / "verify.mjs"))


PHP = """
require getenv('EXAMPLE');
error_reporting(E_ALL);
set_error_handler(function ($level, $message) { throw new ErrorException($message); });
echo json_encode(array_map(function ($case) {
    try {
        verify_webhook($case['keys'], $case['headers'], base64_decode($case['body']), $case['now']);
    } catch (UnexpectedValueException) {
        return false;
    }
    return true;
}, json_decode(file_get_contents('php://stdin'), true)));
"""


async def by_php(cases: list[Case], _: Path) -> list[bool]:
    return await verdicts(cases, "php", "-r", PHP, EXAMPLE=str(VERIFY / "verify.php"))


GO = """
package main

import (
	"encoding/json"
	"net/http"
	"os"
	"time"

	"example/webhooks"
)

func main() {
	var cases []struct {
		Keys    []string
		Headers map[string]string
		Body    []byte
		Now     int64
	}
	if err := json.NewDecoder(os.Stdin).Decode(&cases); err != nil {
		panic(err)
	}
	verdicts := []bool{}
	for _, one := range cases {
		header := http.Header{}
		for name, value := range one.Headers {
			header.Set(name, value)
		}
		verdicts = append(verdicts, webhooks.Verify(one.Keys, header, one.Body, time.Unix(one.Now, 0)) == nil)
	}
	json.NewEncoder(os.Stdout).Encode(verdicts)
}
"""


async def by_go(cases: list[Case], folder: Path) -> list[bool]:
    (folder / "webhooks").mkdir()
    (folder / "go.mod").write_text("module example\n\ngo 1.19\n")
    (folder / "main.go").write_text(GO)
    shutil.copy(VERIFY / "verify.go", folder / "webhooks" / "verify.go")
    return await verdicts(cases, "go", "run", ".", cwd=folder, GOTOOLCHAIN="local")


async def by_openssl(cases: list[Case], folder: Path) -> list[bool]:
    async def good(number: int, case: Case) -> bool:
        body = folder / str(number)
        body.write_bytes(case.body)
        names = ("webhook-id", "webhook-timestamp", "webhook-signature")
        values = [case.headers.get(name, "") for name in names]
        code, out, err = await run(VERIFY / "verify.sh", " ".join(case.keys), *values, body, NOW=str(case.now))
        assert (code, out, len(err.splitlines())) in {(0, "", 0), (1, "", 1)}, (case.name, err)
        return code == 0

    return [await good(number, case) for number, case in enumerate(cases)]


#: Each example, and the program that it needs; the first is our own code, by which the cases are what they should be.
LANGUAGES: dict[str, tuple[Callable[[list[Case], Path], Awaitable[list[bool]]], str]] = {
    "ours": (by_us, sys.executable),
    "python": (by_python, sys.executable),
    "node": (by_node, "node"),
    "php": (by_php, "php"),
    "go": (by_go, "go"),
    "openssl": (by_openssl, "openssl"),
}


@pytest.mark.parametrize("signature", ["v1", "v1a"])
@pytest.mark.parametrize("language", LANGUAGES)
async def test_an_example_takes_what_is_real_and_refuses_what_is_not(
    client: httpx2.AsyncClient,
    database: Database,
    tmp_path: Path,
    signature: str,
    language: str,
) -> None:
    by, program = LANGUAGES[language]
    if shutil.which(program) is None:
        pytest.skip(f"{program} is not installed here")
    cases = variants(*await real(client, database, signature))
    found = await by(cases, tmp_path)
    assert [case.name for case, good in zip(cases, found, strict=True) if good != case.good] == []


# --- the other way round -----------------------------------------------------------------------------------------


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed here")
async def test_an_event_that_is_sent_by_curl_is_good(tmp_path: Path) -> None:
    secret = new_secret("whsec_")
    async with receiving(lambda: Response("Thanks!", status_code=200)) as (url, got):
        code, out, err = await run(VERIFY / "send.sh", secret, url, cwd=tmp_path)
    assert (code, err) == (0, "")
    assert out.startswith("HTTP/1.1 200")
    assert out.endswith("Thanks!")
    [(headers, body)] = got.got
    stamp = headers["webhook-timestamp"]
    crypto.verify([secret], headers["webhook-id"], stamp, headers["webhook-signature"], body, now=float(stamp))
    assert json.loads(body)["type"] == "WebhookTest"
    assert headers["content-type"] == "application/json"


def test_the_request_on_the_page_is_good() -> None:
    page = reference.WEBHOOKS.read_text()
    sample = re.search(r"^POST .*?\n\n.*?$", page, re.DOTALL | re.MULTILINE)
    assert sample
    head, body = sample[0].split("\n\n")
    headers = dict(line.split(": ", 1) for line in head.splitlines()[1:])
    stamp = headers["webhook-timestamp"]
    keys = re.findall(r"wh(?:sec|pk)_[A-Za-z0-9+/=]{30,}", page)
    assert [key[:5] for key in keys] == ["whsec", "whpk_"]
    for key in keys:
        crypto.verify(
            [key], headers["webhook-id"], stamp, headers["webhook-signature"], body.encode(), now=float(stamp)
        )
    assert json.dumps(json.loads(body), separators=(",", ":")) == body


def test_the_page_has_the_examples_word_for_word() -> None:
    page = reference.WEBHOOKS.read_text()
    assert page == reference.webhooks(), "run `make reference`"
    assert sorted(re.findall(r"<!-- (docs/verify/\S+) -->", page)) == sorted(
        str(path.relative_to(reference.ROOT)) for path in VERIFY.iterdir() if path.is_file()
    )
