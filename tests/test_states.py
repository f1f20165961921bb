from collections.abc import AsyncIterator
from itertools import product

import pytest
from fixtures_lanes import add_lanes, value
from fixtures_postgres import own_database

from commands.reference import ROOT
from errors import LeaseLost
from sql.database import Database
from tasks.web.state_changes import States
from tasks.web.states import (
    OPEN,
    TRANSITIONS,
    ForbiddenTransitionError,
    State,
    after_closing,
    diagram,
    is_quiet,
    move,
)

PAIRS = list(product(State, State))


@pytest.fixture(scope="module")
async def shared(postgres: str) -> AsyncIterator[Database]:
    """A database for all pairs, each with an account of its own."""
    with own_database(postgres) as url:
        async with Database(url) as it:
            yield it


@pytest.mark.parametrize(("current", "to"), PAIRS)
async def test_every_change_is_in_the_table_or_is_refused(shared: Database, current: State, to: State) -> None:
    """And what is written is the change, its history with reason and worker, and its event."""
    account, states = f"acc_{current}_{to}", States(shared, "wrk_1")
    await add_lanes(shared, account)
    async with shared.transaction() as tx:
        await tx.connection.execute(
            "update accounts set state = %s, leased_by = 'wrk_1' where id = %s", [current, account]
        )

    async def row() -> list[str | None]:
        return list(
            await value(shared, "select array[state, state_before, state_reason] from accounts where id = %s", account)
        )

    async def changes() -> list[str]:
        line = "select array_agg(concat_ws(' ', from_state, to_state, reason, worker)) from account_changes "
        return await value(shared, line + "where account_id = %s", account) or []

    async def events() -> list[str]:
        data = "select array_agg((body::json -> 'data')::text) from outbox where type = 'AccountStateChanged' "
        return await value(shared, data + "and body::json #>> '{data,account}' = %s", account) or []

    before = await row()
    if to is not current and to not in TRANSITIONS[current]:
        with pytest.raises(ForbiddenTransitionError, match=f"{current} cannot become {to}"):
            await states.change(account, to, "because")
        assert (await row(), await changes(), await events()) == (before, [], [])
        return
    await states.change(account, to, "because")
    changed = to is not current
    assert await row() == [to, current if changed else before[1], "because"]
    assert await changes() == ([f"{current} {to} because wrk_1"] if changed else [])
    told = f'{{"account":"{account}","from":"{current}","to":"{to}","reason":"because"}}'
    assert await events() == ([told] if changed and not is_quiet(None, current, to) else [])


def test_every_state_can_be_left_and_reached() -> None:
    assert set(TRANSITIONS) == set(State)
    assert {to for some in TRANSITIONS.values() for to in some} == set(State) - {State.not_started}
    assert move(State.banned, State.banned) is State.banned


async def test_only_the_holder_of_the_lease_changes_a_state(database: Database) -> None:
    await add_lanes(database, "acc_1")
    with pytest.raises(LeaseLost):
        await States(database, "wrk_2").change("acc_1", State.starting)
    assert await value(database, "select state from accounts") == "not_started"


def test_waking_and_sleeping_are_quiet_and_nothing_else() -> None:
    ready, asleep, starting = State.ready, State.hibernated, State.starting
    assert is_quiet(None, ready, asleep)
    assert is_quiet(ready, asleep, starting)
    assert is_quiet(asleep, starting, ready)
    assert not is_quiet(ready, starting, ready)
    assert not is_quiet(asleep, starting, State.qr_pending)
    assert not is_quiet(asleep, starting, State.auth_failed)


@pytest.mark.parametrize("state", list(State))
@pytest.mark.parametrize("linked", [True, False])
def test_a_closed_browser_leaves_a_state_without_one(state: State, linked: bool) -> None:
    left = after_closing(state, linked=linked)
    assert left not in OPEN
    # A login that was never had cannot sleep, and whoever is linked shows no code.
    if (state is State.qr_pending) != linked:
        assert move(state, left) is left


def test_the_diagram_in_the_docs_is_the_table() -> None:
    assert f"```mermaid\n{diagram()}\n```" in (ROOT / "docs" / "accounts.md").read_text()
