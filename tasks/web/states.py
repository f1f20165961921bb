"""The states of an account's session and the one table of their transitions. No I/O."""

from enum import StrEnum


class State(StrEnum):
    """Where an account stands."""

    not_started = "not_started"  # never asked to connect
    starting = "starting"  # a browser is being opened
    qr_pending = "qr_pending"  # a code is available and waits for a phone
    authenticated = "authenticated"  # linked, the history is still loading
    ready = "ready"  # can send
    hibernated = "hibernated"  # asleep: sealed, without a seat, wakes by itself
    disconnected = "disconnected"  # closed, on request or after five reconnects
    auth_failed = "auth_failed"  # unlinked by the phone or by WhatsApp; needs a new scan
    suspected_ban = "suspected_ban"  # ban text and no chat list, seen once
    banned = "banned"  # seen again after 30 s; only a person resumes it
    circuit_open = "circuit_open"  # five failures in a row; one probe after a pause


#: states that any session that has begun may come to
_TROUBLE = frozenset({State.disconnected, State.auth_failed, State.suspected_ban, State.circuit_open})

TRANSITIONS: dict[State, frozenset[State]] = {
    State.not_started: frozenset({State.starting, State.disconnected}),
    # A phone may scan a code before the state says that there is one.
    State.starting: _TROUBLE | {State.qr_pending, State.authenticated, State.ready, State.hibernated},
    State.qr_pending: _TROUBLE | {State.starting, State.authenticated},
    State.authenticated: _TROUBLE | {State.starting, State.ready, State.hibernated},
    State.ready: _TROUBLE | {State.starting, State.hibernated},
    State.hibernated: frozenset({State.starting, State.disconnected}),
    State.disconnected: frozenset({State.starting, State.auth_failed, State.suspected_ban}),
    State.auth_failed: frozenset({State.starting, State.disconnected}),
    # The state stays while the page is reopened for the second look; what that finds decides where it goes.
    State.suspected_ban: frozenset(
        {State.banned, State.ready, State.starting, State.auth_failed, State.disconnected, State.circuit_open}
    ),
    State.banned: frozenset({State.starting, State.disconnected}),
    State.circuit_open: frozenset({State.starting, State.hibernated} | (_TROUBLE - {State.circuit_open})),
}


#: states in which a browser is open, or about to be
OPEN = frozenset({State.starting, State.qr_pending, State.authenticated, State.ready})


class ForbiddenTransitionError(ValueError):
    """The table of transitions does not have this one."""


def move(current: State, to: State) -> State:
    """Return `to` if the table allows it; staying is always allowed. Raise ForbiddenTransitionError."""
    if to is not current and to not in TRANSITIONS[current]:
        raise ForbiddenTransitionError(f"An account that is {current} cannot become {to}.")
    return to


def is_quiet(before: State | None, current: State, to: State) -> bool:
    """Tell whether a change only hibernates or wakes, which makes no event. `before` is the state before `current`."""
    asleep = State.hibernated
    waking = current is State.starting and before is asleep and to is State.ready
    return to is asleep or (current is asleep and to is State.starting) or waking


def after_closing(current: State, *, linked: bool) -> State:
    """Return the state of an account after its browser was closed without an error."""
    if current not in OPEN:
        return current
    return State.hibernated if linked else State.disconnected


def diagram() -> str:
    """Draw the table as a Mermaid state diagram."""
    lines = ["stateDiagram-v2", "    [*] --> not_started"]
    lines += [f"    {state} --> {to}" for state, some in TRANSITIONS.items() for to in sorted(some)]
    return "\n".join(lines)
