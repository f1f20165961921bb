"""The greeting of `postrider up`: a courtesy, beside a service that goes on."""

import asyncio
from contextlib import suppress
from pathlib import Path

import pytest
from fixtures_house import house, make_settings

from commands import greeting

pytestmark = pytest.mark.timeout(180)


class Output:
    """What was printed so far."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys
        self.text = ""

    async def shows(self, text: str, seconds: float = 60) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while text not in self.text:
                    await asyncio.sleep(0.05)
                    self.text += self._capsys.readouterr().out
        assert text in self.text


@pytest.mark.long
async def test_what_keeps_the_first_account_from_being_linked_is_said_and_its_code_is_shown_later(
    database_url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async with house(tmp_path, database_url, max_sessions=2) as it:
        other = (await it.client.post("/accounts", {"name": "Other", "transport": "sandbox"}))["id"]
        await it.client.post(f"/accounts/{other}/connect")
        await it.client.qr(other)
        output = Output(capsys)
        welcome = asyncio.create_task(greeting.welcome(it.settings))
        await output.shows(
            "Every seat but one waits for a scan already: scan those codes first, or raise MAX_SESSIONS."
        )
        await output.shows("Postrider is up.")
        await output.shows(f"Account {other} (Other) waits for a scan:")
        first = (await it.client.get("/accounts"))["items"][-1]["id"]
        assert f'"account": "{first}"' in output.text, "there are two, so the curl line names one"
        await it.client.scan(other)
        await output.shows(f"Account {first} (First) waits for a scan:")
        await it.client.scan(first)
        await it.client.wait(f"/accounts/{first}", "state", {"ready"}, 60)
        assert not welcome.done()
        welcome.cancel()
        # Whoever starts it again is not given a third one.
        again = asyncio.create_task(greeting.welcome(it.settings))
        output.text = ""
        await output.shows("Postrider is up.")
        assert len((await it.client.get("/accounts"))["items"]) == 2
        again.cancel()


async def test_an_api_that_does_not_come_up_is_waited_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(greeting, "READY", 0.2)
    welcome = asyncio.create_task(greeting.welcome(make_settings(tmp_path, "postgresql://nowhere", 1, 1)))
    await Output(capsys).shows("Still waiting")
    assert not welcome.done()
    welcome.cancel()
