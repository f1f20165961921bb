from itertools import product

import pytest
from fixtures_lanes import add_lanes, value

from browser.session import (
    OPEN,
    TRANSITIONS,
    ForbiddenTransitionError,
    State,
    after_closing,
    diagram,
    is_quiet,
    move,
)
from commands.reference import ROOT
from errors import LeaseLost
from sql.database import Database
from tasks.states import States

PAIRS = list(product(State, State))


@pytest.mark.parametrize(("current", "to"), PAIRS)
async def test_every_change_is_in_the_table_or_is_refused(database: Database, current: State, to: State) -> None:
    """And what is written is the change, its history with reason and worker, and its event."""
    await add_lanes(database, "acc_1")
    async with database.transaction() as tx:
        await tx.connection.execute("update accounts set state = %s, leased_by = 'wrk_1'", [current])
    states = States(database, "wrk_1")

    if to is not current and to not in TRANSITIONS[current]:
        with pytest.raises(ForbiddenTransitionError, match=f"{current} cannot become {to}"):
            await states.change("acc_1", to, "because")
        assert await value(database, "select state from accounts") == current
        assert await value(database, "select count(*) from account_changes") == 0
        return
    await states.change("acc_1", to, "because")
    assert await value(database, "select state || ' ' || state_reason from accounts") == f"{to} because"
    changed = to is not current
    assert await value(database, "select count(*) from account_changes") == changed
    told = changed and not is_quiet(None, current, to)
    assert await value(database, "select count(*) from outbox where type = 'AccountStateChanged'") == told
    if changed:
        line = "select concat_ws(' ', from_state, to_state, reason, worker) from account_changes"
        assert await value(database, line) == f"{current} {to} because wrk_1"
        assert await value(database, "select state_before from accounts") == current
    if told:
        data = "select (body::json -> 'data')::text from outbox"
        assert await value(database, data) == f'{{"account":"acc_1","from":"{current}","to":"{to}","reason":"because"}}'


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
