"""A page that crashes at each step of sending a message."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from fixtures_house import House, house

from browser.sandbox.control import STEPS

pytestmark = pytest.mark.timeout(600)


@pytest.fixture
async def running(database_url: str, tmp_path: Path) -> AsyncIterator[House]:
    async with house(tmp_path, database_url, send_backoff_seconds=0.2) as it:
        yield it


async def ordered(it: House, account: str) -> str | None:
    """Return the step at which the account's page is still to crash."""
    assert it.worker
    left: str | None = await it.seats.sessions[account].page._page.evaluate("localStorage.getItem('crash-at')")
    return left


@pytest.mark.long
async def test_a_crash_at_any_step_loses_and_doubles_nothing(running: House) -> None:
    account = await running.link()
    for step in STEPS:
        await running.client.post(f"/sandbox/accounts/{account}/crash", {"at": step})
        ended = await running.ended(await running.send(account, "15557770001", step), 90)
        assert ended["sentAt"], (step, ended)
        assert await ordered(running, account) is None, f"the page did not come to {step}"
    assert await running.received("15557770001") == list(STEPS)
    assert (await running.client.get(f"/accounts/{account}"))["state"] == "ready"
