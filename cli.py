"""The commands: demo, up, api, worker, migrate, doctor, why, keys, selectors, bench.

Each imports what it needs when it runs, so that --help and a mistyped name wait for nothing.
"""
# ruff: noqa: PLC0415

import asyncio
import gc
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from errors import OperatorError, PostriderError

if TYPE_CHECKING:
    from settings import Settings

cli = typer.Typer(
    no_args_is_help=True, add_completion=False, help="Sends WhatsApp messages from a Postgres task table."
)
keys_cli = typer.Typer(
    no_args_is_help=True, help="Create, list and revoke keys of the HTTP API; change ENCRYPTION_KEY."
)
cli.add_typer(keys_cli, name="keys")
selectors_cli = typer.Typer(no_args_is_help=True, help="Look at the selectors of WhatsApp's page, and replace them.")
cli.add_typer(selectors_cli, name="selectors")
bench_cli = typer.Typer(no_args_is_help=True, help="Measure, on sandbox accounts and an embedded Postgres of its own.")
cli.add_typer(bench_cli, name="bench")


def _run(work: "Callable[[Settings], int]", *, log_level: str | None = None, **values: object) -> None:
    """Run a command on the settings, of which `values` are given; what stops it is one line, and exit code 1."""

    def run() -> int:
        import logs
        from commands import environment

        for number in (signal.SIGTERM, signal.SIGHUP):
            # For as long as a command has no answer of its own: the embedded Postgres must not stay behind.
            if signal.getsignal(number) is signal.SIG_DFL:
                signal.signal(number, _exit)
        settings = environment.load(**{name: value for name, value in values.items() if value is not None})
        logs.configure(log_level or settings.log_level, plain=sys.stderr.isatty())
        try:
            return work(settings)
        finally:
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
                # The interpreter's end, which stops it, is not to be cut off.
                signal.signal(number, signal.SIG_IGN)

    _end(run)


def _exit(number: int, _: object) -> None:
    raise SystemExit(128 + number)


def _end(work: Callable[[], int]) -> None:
    """Run a command and exit with its code."""
    gc.enable()
    try:
        code = work()
    except OperatorError as error:
        _stop(error.detail)
    except PostriderError as error:
        _stop(f"{error.detail} ({error.code})")
    raise typer.Exit(code)


def _stop(line: str) -> None:
    typer.echo(f"postrider: {line}", err=True)
    raise typer.Exit(1)


@cli.command("demo")
def _demo() -> None:
    """Do the main job once, for real: link a sandbox account, send a message, verify its webhook."""
    from commands import demo

    _run(lambda settings: demo.run_demo(settings.data_dir), log_level="error")


@cli.command("up")
def _up() -> None:
    """Run the whole service on this machine until Ctrl-C: Postgres, API, worker, sandbox."""
    from commands import up

    _run(up.run_up)


EndWithStdin = Annotated[
    bool, typer.Option(hidden=True, help="End, as on SIGTERM, when standard input ends: for `up`.")
]


@cli.command("api")
def _api(*, end_with_stdin: EndWithStdin = False) -> None:
    """Serve the HTTP API."""
    from commands import api

    _run(lambda settings: api.run_api(settings, end_with_stdin=end_with_stdin))


@cli.command("worker")
def _worker(
    *,
    duties: Annotated[
        str | None,
        typer.Option(help="sessions (accounts and their messages), webhooks, or both: in place of WORKER_DUTIES."),
    ] = None,
    end_with_stdin: EndWithStdin = False,
) -> None:
    """Send messages and deliver webhooks."""
    from commands import worker

    _run(lambda settings: worker.run_worker(settings, end_with_stdin=end_with_stdin), worker_duties=duties)


@cli.command("migrate")
def _migrate() -> None:
    """Bring the database's schema up to this version."""
    from commands import environment
    from sql import schema

    def work(settings: "Settings") -> int:
        url = environment.database_url(settings)
        environment.wait_for_database(url)
        applied = schema.migrate(url)
        typer.echo(f"Applied {', '.join(applied)}." if applied else "Nothing to do: the schema is up to date.")
        return 0

    _run(work)


@cli.command("doctor")
def _doctor(
    account: Annotated[
        str | None,
        typer.Option(help="Look at this account's page, beside a running worker too, and report each selector."),
    ] = None,
    *,
    canary: Annotated[
        bool, typer.Option("--canary", help="With --account: send one message to its own number, and time each step.")
    ] = False,
) -> None:
    """Check settings, database, schema, clock, encryption keys, Chromium and disk; of an account, its page."""
    from commands import doctor

    _run(lambda settings: doctor.run_doctor(settings, account, canary=canary), log_level="warning")


@cli.command("why")
def _why(job: Annotated[str, typer.Argument(help="A job, by its jobId: its idempotency key, or job_…")]) -> None:
    """Say why the webhook of a job did not arrive."""
    from commands import why

    _run(lambda settings: why.run_why(settings, job))


@keys_cli.command("create")
def _create(
    name: Annotated[str, typer.Argument(help="What people call it.")],
    *,
    signed: Annotated[bool, typer.Option(help="Requests with it must be signed.")] = False,
) -> None:
    """Create a key and print it, once."""
    from commands import keys

    _run(lambda settings: keys.create(settings, name, signed=signed))


@keys_cli.command("list")
def _list() -> None:
    """List the keys."""
    from commands import keys

    _run(keys.show)


@keys_cli.command("revoke")
def _revoke(key_id: Annotated[str, typer.Argument(help="Its id, key_…")]) -> None:
    """Let a key work no more."""
    from commands import keys

    _run(lambda settings: keys.revoke(settings, key_id))


@keys_cli.command("reseal")
def _reseal() -> None:
    """Seal everything anew with the first key of ENCRYPTION_KEY, so that the others may go."""
    from commands import reseal

    _run(reseal.run_reseal)


@selectors_cli.command("list")
def _list_selectors() -> None:
    """List the versions that are here, and say which is in use."""
    from commands import selectors

    _run(selectors.show)


@selectors_cli.command("use")
def _use(
    version: Annotated[str, typer.Argument(help="One of the list, `shipped`, or `newest` to let new ones in.")],
) -> None:
    """Pin a version, for the way back from one that does harm."""
    from commands import selectors

    _run(lambda settings: selectors.use(settings, version))


@selectors_cli.command("check")
def _check(file: Annotated[Path, typer.Argument(help="A selectors file.")]) -> None:
    """Check a selectors file."""
    from commands import selectors

    _end(lambda: selectors.check(file))


@selectors_cli.command("keygen")
def _keygen(file: Annotated[Path, typer.Argument(help="Where the private key goes.")]) -> None:
    """Make a key to sign selectors with, and print SELECTORS_KEY."""
    from commands import selectors

    _end(lambda: selectors.keygen(file))


@selectors_cli.command("sign")
def _sign(
    file: Annotated[Path, typer.Argument(help="A selectors file.")],
    key: Annotated[Path, typer.Option(help="The private key of keygen.")],
) -> None:
    """Check a selectors file and write its signature beside it, into FILE.sig."""
    from commands import selectors

    _end(lambda: selectors.sign(file, key))


@bench_cli.command("sessions")
def _sessions(
    accounts: Annotated[int, typer.Option(help="Accounts to be linked.")] = 30,
    seats: Annotated[int, typer.Option(help="Seats of the one worker.")] = 4,
    messages: Annotated[int, typer.Option(help="Messages of each account.")] = 2,
    recipients: Annotated[
        int, typer.Option(help="People that each account writes to; a first message takes longer.")
    ] = 1,
    over: Annotated[float, typer.Option(help="Seconds within which they fall due, at random.")] = 0,
) -> None:
    """Serve many accounts on few seats: how long messages wait, what a wake-up and the browsers take."""
    from bench import sessions

    _run(lambda _: asyncio.run(sessions.run(accounts, seats, messages, recipients, over)), log_level="error")


@bench_cli.command("memory")
def _memory(
    live: Annotated[
        list[int] | None, typer.Option(help="Live sessions, may be given again. Default: 1, 5 and 10.")
    ] = None,
) -> None:
    """Weigh live sessions and the worker beside them."""
    from bench import memory

    _run(lambda _: asyncio.run(memory.run(live or [1, 5, 10])), log_level="error")


@bench_cli.command("deliveries")
def _deliveries(
    endpoints: Annotated[
        list[int] | None, typer.Option(help="Endpoints, may be given again. Default: 1, 10 and 100.")
    ] = None,
    events: Annotated[int, typer.Option(min=100, help="Events that wait.")] = 1000,
) -> None:
    """Deliver webhooks to a receiver on this machine, and compare with the bare HTTP client."""
    from bench import deliveries

    _run(lambda _: asyncio.run(deliveries.run(endpoints or [1, 10, 100], events)), log_level="error")


@bench_cli.command("fairness")
def _fairness(
    seconds: Annotated[float, typer.Option(min=10, help="How long each half is measured.")] = 30,
    waiting: Annotated[int, typer.Option(help="Events that wait for a dead endpoint.")] = 100_000,
    hanging: Annotated[int, typer.Option(help="Endpoints that never answer.")] = 500,
) -> None:
    """Measure how long the events of one endpoint take, alone and beside others that are dead or hang."""
    from bench import fairness

    _run(lambda _: asyncio.run(fairness.run(seconds, waiting, hanging)), log_level="error")


@bench_cli.command("flags")
def _flags(
    live: Annotated[
        list[int] | None, typer.Option(help="Live sessions, may be given again. Default: 1, 5 and 10.")
    ] = None,
    chromium: Annotated[
        list[Path] | None, typer.Option(help="A Chromium, may be given again. Default: the one that is found.")
    ] = None,
    left_out: Annotated[
        int, typer.Option(min=0, help="Live sessions while our flags are left out in turn; 0 skips that.")
    ] = 5,
    runs: Annotated[int, typer.Option(min=1, help="Runs of each, of which the median counts.")] = 2,
) -> None:
    """Weigh live sessions with Playwright's flags and with ours, and without each of ours."""
    from bench import flags

    _run(lambda _: asyncio.run(flags.run(live or [1, 5, 10], chromium or [], left_out, runs)), log_level="error")


def main() -> None:
    """Run the command line."""
    # Until a command begins: to search the modules that it loads for garbage takes a seventh of its start.
    gc.disable()
    cli()


if __name__ == "__main__":
    main()
