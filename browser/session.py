"""The states of an account's session and the one table of their transitions. No I/O."""

from enum import StrEnum


class State(StrEnum):
    """Where an account stands."""

    not_started = "not_started"  # never asked to connect
    starting = "starting"  # a browser is being opened
    qr_pending = "qr_pending"  # a code is shown and waits for a phone
    authenticated = "authenticated"  # linked, the history is still loading
    ready = "ready"  # can send
    hibernated = "hibernated"  # asleep: sealed, without a seat, wakes by itself
    disconnected = "disconnected"  # closed, by wish or after five reconnects
    auth_failed = "auth_failed"  # unlinked by the phone or by WhatsApp; needs a new scan
    suspected_ban = "suspected_ban"  # ban text and no chat list, seen once
    banned = "banned"  # seen again after 30 s; only a person resumes it
    circuit_open = "circuit_open"  # five failures in a row; one probe after a pause


#: what may befall any session that has begun
_TROUBLE = frozenset({State.disconnected, State.auth_failed, State.suspected_ban, State.circuit_open})

TRANSITIONS: dict[State, frozenset[State]] = {
    State.not_started: frozenset({State.starting, State.disconnected}),
    State.starting: _TROUBLE | {State.qr_pending, State.authenticated, State.ready, State.hibernated},
    State.qr_pending: _TROUBLE | {State.starting, State.authenticated, State.ready},
    State.authenticated: _TROUBLE | {State.starting, State.qr_pending, State.ready, State.hibernated},
    State.ready: _TROUBLE | {State.starting, State.authenticated, State.hibernated},
    State.hibernated: _TROUBLE | {State.starting},
    State.disconnected: frozenset({State.starting, State.auth_failed, State.not_started}),
    State.auth_failed: frozenset({State.starting, State.disconnected, State.not_started}),
    # The second look comes out of another opening only when it finds the chat list again.
    State.suspected_ban: frozenset(
        {State.banned, State.ready, State.authenticated, State.starting, State.auth_failed, State.disconnected}
    ),
    State.banned: frozenset({State.starting, State.disconnected, State.not_started}),
    State.circuit_open: frozenset({State.starting, State.ready, State.hibernated} | (_TROUBLE - {State.circuit_open})),
}


class ForbiddenTransitionError(ValueError):
    """The table of transitions does not have this one."""


def move(current: State, to: State) -> State:
    """Return `to` where the table allows it; staying is always allowed. Raise ForbiddenTransitionError."""
    if to is not current and to not in TRANSITIONS[current]:
        raise ForbiddenTransitionError(f"An account that is {current} cannot become {to}.")
    return to
