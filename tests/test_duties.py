"""A worker of parts: with sessions, with webhooks, or with both; and what shows where a duty is nobody's."""

import asyncio
import subprocess
import sys
from pathlib import Path

import httpx2
import psutil
import pytest
from fixtures_api import api, new_account, rows
from fixtures_commands import run as command
from fixtures_deliveries import add_endpoint, send_one
from fixtures_house import ROOT, Cluster, cluster
from fixtures_lanes import add_worker, until, value

from bench.ports import held_ports
from errors import SettingsWrong
from settings import read
from sql.database import Database


@pytest.mark.parametrize(
    ("given", "duties"),
    [
        ("sessions", ("sessions",)), (" webhooks ", ("webhooks",)), ("webhooks, sessions", ("sessions", "webhooks")),
        ("", ("sessions", "webhooks")),
    ],
)  # fmt: skip
def test_duties_are_read_from_the_settings(
    given: str, duties: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORKER_DUTIES", given)
    assert read(_env_file=None).worker_duties == duties


def test_a_duty_that_there_is_none_of_ends_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORKER_DUTIES", "webhook")
    with pytest.raises(SettingsWrong, match=r"WORKER_DUTIES=webhook: .*must be sessions"):
        read(_env_file=None)


def test_a_worker_for_webhooks_loads_no_browser(tmp_path: Path) -> None:
    code = f"""
import sys
import commands.worker
from fixtures_api import settings
from wiring.worker import make_worker
made = make_worker(settings(worker_duties="webhooks", data_dir={str(tmp_path)!r}), "postgresql://nowhere", None)
assert [part.duty for part in made.parts] == ["webhooks"]
print(*(name for name in sys.modules if name.startswith(("playwright", "browser", "tasks.web"))))
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True,
        env={"PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}"},
    )  # fmt: skip
    assert done.stdout.split() == []
    assert list(tmp_path.iterdir()) == []


# --- where a duty is nobody's ------------------------------------------------------------------------------------


async def test_a_duty_that_no_worker_has_shows(database: Database, database_url: str, tmp_path: Path) -> None:
    async with api(database_url) as client:
        account = await new_account(client)
        await client.post(f"/accounts/{account}/connect")
        reason = {
            "code": "no_worker", "health": "critical",
            "detail": "No worker with the duty sessions is running: nothing is sent or received. "
            "Start `postrider worker`.",
        }  # fmt: skip
        assert reason in (await client.get(f"/accounts/{account}/health")).json()["reasons"]
        await add_worker(database, "wrk_hooks", seats=0, duties=["webhooks"])
        assert reason in (await client.get(f"/accounts/{account}/health")).json()["reasons"]
        assert (await client.get(f"/accounts/{account}")).json()["health"] == "critical"
        await rows(database, "update lanes set open_at = '-infinity' returning id")
        await client.post("/send", json={"phone": "15551234567", "message": "x"})
        for duty, workers, waiting in (("sessions", 0, 1), ("webhooks", 1, 0)):
            shown = (await client.get("/metrics")).text
            assert f'postrider_workers{{duty="{duty}"}} {workers}.0' in shown
            assert f'postrider_unserved_work{{duty="{duty}"}} {waiting}.0' in shown
        _, said = await command("doctor", **doctored(database_url, tmp_path))
        assert (
            "WRONG workers   No worker with the duty sessions is running, and 1 messages are due: "
            "start `postrider worker --duties sessions`."
        ) in said.splitlines()
        await add_worker(database, "wrk_pages", duties=["sessions"])
        assert reason not in (await client.get(f"/accounts/{account}/health")).json()["reasons"]
        _, said = await command("doctor", **doctored(database_url, tmp_path))
        assert "ok    workers   1 for sessions, 1 for webhooks are running" in said.splitlines()


def doctored(database_url: str, folder: Path) -> dict[str, str]:
    return {"DATABASE_URL": database_url, "DATA_DIR": str(folder)}


async def test_deliveries_that_are_nobodys_show(database: Database, database_url: str, tmp_path: Path) -> None:
    _, said = await command("doctor", **doctored(database_url, tmp_path))
    assert "ok    workers   no worker is running, and no work is waiting for one" in said.splitlines()
    await add_endpoint(database, "http://127.0.0.1:1/hook")
    await add_worker(database, duties=["sessions"])
    job = await send_one(database)
    _, said = await command("doctor", **doctored(database_url, tmp_path))
    assert "and 1 deliveries are due: start `postrider worker --duties webhooks`." in said
    _, said = await command("why", job, **doctored(database_url, tmp_path))
    assert "but no worker with the duty webhooks is running." in said


# --- real ones ---------------------------------------------------------------------------------------------------


async def ready(port: int) -> tuple[int, str]:
    """Wait until a worker's health port answers; return what /readyz says."""
    async with httpx2.AsyncClient() as client, asyncio.timeout(60):
        while True:
            try:
                answer = await client.get(f"http://127.0.0.1:{port}/readyz")
            except httpx2.TransportError:
                await asyncio.sleep(0.05)
            else:
                return answer.status_code, answer.json()["status"]


async def start(it: Cluster, duties: str, home: Path, **environment: str) -> tuple[int, psutil.Process]:
    (port,) = held_ports(1)
    own = {"WORKER_DUTIES": duties, "WORKER_PORT": str(port), "CHROME_USER_DATA_DIR": str(home)}
    program = await it.start("worker", **own, **environment)
    return port, psutil.Process(program.process.pid)


@pytest.mark.timeout(300)
async def test_two_workers_share_the_duties(database_url: str, tmp_path: Path) -> None:
    async with cluster(tmp_path, database_url) as it:
        port, process = await start(it, "webhooks", tmp_path / "none", CHROMIUM_PATH=str(tmp_path / "no-chromium"))
        assert await ready(port) == (200, "ready")
        assert process.children(recursive=True) == []
        assert not (tmp_path / "none").exists()
        workers = "select array_agg(row (duties, seats > 0, home is not null)::text order by duties) from workers"
        assert await value(it.database, workers) == ["({webhooks},f,f)"]
        account = (await it.client.post("/accounts", {"name": "x", "transport": "sandbox"}))["id"]
        await it.client.post(f"/accounts/{account}/connect")
        reasons = (await it.client.get(f"/accounts/{account}/health"))["reasons"]
        assert "no_worker" in {reason["code"] for reason in reasons}
        await start(it, "sessions", tmp_path / "profiles")
        await until(it.database, workers, ["({sessions},t,t)", "({webhooks},f,f)"], seconds=60)
        await it.client.qr(account)
        await it.client.scan(account)
        await it.client.wait(f"/accounts/{account}", "state", {"ready"}, 60)
        job = await it.send(account, "15556660001")
        assert (await it.ended(job))["sentAt"]
        assert (await it.event(job))["type"] == "JobCompleted"
        drained = "select array_agg(distinct duties order by duties) from lanes join workers on workers.id = drained_by"
        assert await value(it.database, f"{drained} where kind = 'account'") == [["sessions"]]
        assert await value(it.database, f"{drained} where kind = 'endpoint'") == [["webhooks"]]
        assert process.children(recursive=True) == []
