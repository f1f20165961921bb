"""The commands: demo, up, api, worker, migrate, doctor, why, keys, orgs, reports, selectors, bench.

Each command imports its modules when it runs, so that --help and a mistyped name are answered at once.
"""
# ruff: noqa: PLC0415

import asyncio
import gc
import signal
import sys
from collections.abc import Callable
from enum import StrEnum
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
orgs_cli = typer.Typer(no_args_is_help=True, help="Create and list orgs: tenants that see nothing of each other.")
cli.add_typer(orgs_cli, name="orgs")
reports_cli = typer.Typer(no_args_is_help=True, help="Print reports and charts; let people read them with SQL.")
cli.add_typer(reports_cli, name="reports")
logins_cli = typer.Typer(no_args_is_help=True, help="Logins of Postgres that read the reports of one org.")
reports_cli.add_typer(logins_cli, name="login")
selectors_cli = typer.Typer(no_args_is_help=True, help="Look at the selectors of WhatsApp's page, and replace them.")
cli.add_typer(selectors_cli, name="selectors")
bench_cli = typer.Typer(
    no_args_is_help=True, help="Measure speed and memory, each time on a separate embedded Postgres."
)
cli.add_typer(bench_cli, name="bench")

ORG = "The org, org_…; not needed while there is one."
PERIOD = "a day such as 2026-12-01, or a time with its zone such as 2026-12-01T09:00:00Z"


class ReportForm(StrEnum):
    """How `reports show` prints a report."""

    TABLE = "table"
    CSV = "csv"
    JSON = "json"
    NDJSON = "ndjson"


def _run(work: "Callable[[Settings], int]", *, log_level: str | None = None, **values: object) -> None:
    """Run a command with the settings, overridden by `values`. An error is one line and exit code 1."""

    def run() -> int:
        import logs
        from commands import environment

        for number in (signal.SIGTERM, signal.SIGHUP):
            # Unless a command sets its own handler: exit normally, which stops the embedded Postgres.
            if signal.getsignal(number) is signal.SIG_DFL:
                signal.signal(number, _exit)
        settings = environment.load(**{name: value for name, value in values.items() if value is not None})
        logs.configure(log_level or settings.log_level, plain=sys.stderr.isatty())
        try:
            return work(settings)
        finally:
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
                # The embedded Postgres is stopped at the interpreter's exit, which must not be interrupted.
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
    """Link a sandbox account, send one message and verify its webhook, step by step."""
    from commands import demo

    _run(lambda settings: demo.run_demo(settings.data_dir), log_level="error")


@cli.command("up")
def _up() -> None:
    """Run the whole service on this machine until Ctrl-C: Postgres, API, worker, sandbox."""
    from commands import up

    _run(up.run_up)


EndWithStdin = Annotated[
    bool, typer.Option(hidden=True, help="Stop, as on SIGTERM, when standard input ends; `up` uses this.")
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
        typer.Option(
            help="sessions (accounts and their messages), webhooks, or sessions,webhooks. Overrides WORKER_DUTIES."
        ),
    ] = None,
    end_with_stdin: EndWithStdin = False,
) -> None:
    """Send messages and deliver webhooks."""
    from commands import worker

    _run(lambda settings: worker.run_worker(settings, end_with_stdin=end_with_stdin), worker_duties=duties)


@cli.command("migrate")
def _migrate(
    *,
    roles: Annotated[
        bool, typer.Option("--roles", help="Only make the roles, before a dump is restored on a new server.")
    ] = False,
) -> None:
    """Update the database's schema to this version."""
    from commands import environment

    def work(settings: "Settings") -> int:
        applied = environment.migrate(settings, only_roles=roles)
        if roles:
            typer.echo("The roles are there.")
            return 0
        typer.echo(f"Applied {', '.join(applied)}." if applied else "Nothing to do: the schema is up to date.")
        return 0

    _run(work)


@cli.command("doctor")
def _doctor(
    account: Annotated[
        str | None,
        typer.Option(help="Also check this account's page, selector by selector. A worker may be running."),
    ] = None,
    *,
    canary: Annotated[
        bool,
        typer.Option("--canary", help="With --account: also send one message to its own number, and time each step."),
    ] = False,
) -> None:
    """Check settings, database, workers, keys, Chromium and more; with --account, also the account's page."""
    from commands import doctor

    _run(lambda settings: doctor.run_doctor(settings, account, canary=canary), log_level="warning")


@cli.command("why")
def _why(
    job: Annotated[str, typer.Argument(help="The jobId of a job: its idempotency key, or job_…")],
    org: Annotated[str | None, typer.Option(help=ORG)] = None,
) -> None:
    """Explain why the webhook of a job did not arrive."""
    from commands import why

    _run(lambda settings: why.run_why(settings, job, org))


@keys_cli.command("create")
def _create(
    name: Annotated[str, typer.Argument(help="A name for people.")],
    *,
    signed: Annotated[bool, typer.Option(help="Requests with this key must be signed.")] = False,
    org: Annotated[str | None, typer.Option(help=ORG)] = None,
) -> None:
    """Create a key and print it, once."""
    from commands import keys

    _run(lambda settings: keys.create(settings, name, signed=signed, org=org))


@keys_cli.command("list")
def _list() -> None:
    """List the keys."""
    from commands import keys

    _run(keys.show)


@keys_cli.command("revoke")
def _revoke(key_id: Annotated[str, typer.Argument(help="The id of the key, key_…")]) -> None:
    """Revoke a key."""
    from commands import keys

    _run(lambda settings: keys.revoke(settings, key_id))


@keys_cli.command("reseal")
def _reseal() -> None:
    """Encrypt everything again with the first key of ENCRYPTION_KEY, so that the others can be removed."""
    from commands import reseal

    _run(reseal.run_reseal)


@orgs_cli.command("create")
def _create_org(name: Annotated[str, typer.Argument(help="A name for people.")]) -> None:
    """Create an org, and print it with its first key, once."""
    from commands import orgs

    _run(lambda settings: orgs.create(settings, name))


@orgs_cli.command("list")
def _list_orgs() -> None:
    """List the orgs."""
    from commands import orgs

    _run(orgs.show)


@reports_cli.command("show")
def _show_report(  # each is an option
    view: Annotated[str | None, typer.Argument(help="The report, such as daily_volume; without it, a list.")] = None,
    *,
    form: Annotated[ReportForm, typer.Option("--format", help="How it is printed.")] = ReportForm.TABLE,
    since: Annotated[str | None, typer.Option(help=f"Only rows from then on: {PERIOD}.")] = None,
    until: Annotated[str | None, typer.Option(help="Only rows before then.")] = None,
    account: Annotated[str | None, typer.Option(help="Only rows of this account, acc_….")] = None,
    org: Annotated[str | None, typer.Option(help=ORG)] = None,
    bom: Annotated[bool, typer.Option("--bom", help="Begin CSV with a byte order mark, for Excel.")] = False,
    raw: Annotated[
        bool, typer.Option("--raw", help="In CSV, leave texts as they are that a spreadsheet takes for formulas.")
    ] = False,
) -> None:
    """Print a report: what went out, arrived, was read or failed. Without a name, list the reports."""
    from commands import reports

    asked = reports.Asked(org, since, until, account, bom=bom, formulas="raw" if raw else "guarded")
    if view is None:
        _run(lambda settings: reports.show_views(settings, org))
    else:
        _run(lambda settings: reports.show(settings, view, form, asked), log_level="error")


@reports_cli.command("chart")
def _chart(
    *,
    out: Annotated[Path, typer.Option(help="Folder of the pictures; a picture that is there is replaced.")] = Path(),
    since: Annotated[str | None, typer.Option(help=f"From then on: {PERIOD}. Default: 30 days before its end.")] = None,
    until: Annotated[str | None, typer.Option(help="Before then.")] = None,
    account: Annotated[str | None, typer.Option(help="Of this account, acc_….")] = None,
    org: Annotated[str | None, typer.Option(help=ORG)] = None,
) -> None:
    """Draw volume.svg, rates.svg and latency.svg, for mails and slides."""
    from commands import reports

    _run(lambda settings: reports.draw(settings, reports.Asked(org, since, until, account), out), log_level="error")


@logins_cli.command("create")
def _create_login(
    name: Annotated[str, typer.Argument(help="The login's name in Postgres, such as bakery_reports.")],
    *,
    org: Annotated[str | None, typer.Option(help=ORG)] = None,
    seconds: Annotated[int, typer.Option(min=0, help="How long a statement of it may take; 0 is any time.")] = 60,
) -> None:
    """Make a login that reads the reports of an org and nothing else, and print its password, once."""
    from commands import reports

    _run(lambda settings: reports.create_login(settings, name, org, seconds))


@logins_cli.command("list")
def _list_logins() -> None:
    """List the logins for reports."""
    from commands import reports

    _run(reports.show_logins)


@logins_cli.command("revoke")
def _revoke_login(name: Annotated[str, typer.Argument(help="The login's name.")]) -> None:
    """Let a login read no reports any more, and drop it if it was made here."""
    from commands import reports

    _run(lambda settings: reports.revoke_login(settings, name))


@selectors_cli.command("list")
def _list_selectors() -> None:
    """List the stored versions, and say which one is in use."""
    from commands import selectors

    _run(selectors.show)


@selectors_cli.command("use")
def _use(
    version: Annotated[
        str, typer.Argument(help="A version of the list, `shipped`, or `newest` to use new versions again.")
    ],
) -> None:
    """Pin a version, to go back from one that does harm."""
    from commands import selectors

    _run(lambda settings: selectors.use(settings, version))


@selectors_cli.command("check")
def _check(file: Annotated[Path, typer.Argument(help="A selectors file.")]) -> None:
    """Check a selectors file."""
    from commands import selectors

    _end(lambda: selectors.check(file))


@selectors_cli.command("keygen")
def _keygen(file: Annotated[Path, typer.Argument(help="The file that the private key is written to.")]) -> None:
    """Make a key for signing selectors, and print SELECTORS_KEY."""
    from commands import selectors

    _end(lambda: selectors.keygen(file))


@selectors_cli.command("sign")
def _sign(
    file: Annotated[Path, typer.Argument(help="A selectors file.")],
    key: Annotated[Path, typer.Option(help="The private key that keygen wrote.")],
) -> None:
    """Check a selectors file and write its signature beside it, into FILE.sig."""
    from commands import selectors

    _end(lambda: selectors.sign(file, key))


@bench_cli.command("sessions")
def _sessions(
    accounts: Annotated[int, typer.Option(help="Number of accounts.")] = 30,
    seats: Annotated[int, typer.Option(help="Seats of the worker.")] = 4,
    messages: Annotated[int, typer.Option(help="Messages per account.")] = 2,
    recipients: Annotated[
        int, typer.Option(help="Recipients per account; the first message to each takes longer.")
    ] = 1,
    over: Annotated[float, typer.Option(help="Seconds within which the messages fall due, at random times.")] = 0,
) -> None:
    """Measure many accounts on few seats: waiting time, wake-ups, memory of the browsers."""
    from bench import sessions

    _run(lambda _: asyncio.run(sessions.run(accounts, seats, messages, recipients, over)), log_level="error")


@bench_cli.command("memory")
def _memory(
    live: Annotated[
        list[int] | None, typer.Option(help="Number of live sessions; may be repeated. Default: 1, 5 and 10.")
    ] = None,
) -> None:
    """Measure the memory of live sessions and of the worker's own processes."""
    from bench import memory

    _run(lambda settings: asyncio.run(memory.run(live or [1, 5, 10], settings.data_dir / "bench")), log_level="error")


@bench_cli.command("idle")
def _idle(
    live: Annotated[
        list[int] | None, typer.Option(help="Number of live sessions; may be repeated. Default: 0 and 10.")
    ] = None,
    seconds: Annotated[float, typer.Option(min=1, help="Seconds of each round.")] = 25,
    rounds: Annotated[int, typer.Option(min=1, help="Rounds; the median is reported.")] = 3,
) -> None:
    """Measure the CPU of sessions that have nothing to do: the worker, Playwright's driver, the browsers."""
    from bench import idle

    _run(
        lambda settings: asyncio.run(idle.run(live or [0, 10], seconds, rounds, settings.data_dir / "bench")),
        log_level="error",
    )


@bench_cli.command("deliveries")
def _deliveries(
    endpoints: Annotated[
        list[int] | None, typer.Option(help="Number of endpoints; may be repeated. Default: 1, 10 and 100.")
    ] = None,
    events: Annotated[int, typer.Option(min=100, help="Number of waiting events.")] = 1000,
) -> None:
    """Measure deliveries a second to a receiver on this machine, compared with the bare HTTP client."""
    from bench import deliveries

    _run(
        lambda settings: asyncio.run(deliveries.run(endpoints or [1, 10, 100], events, settings.data_dir / "bench")),
        log_level="error",
    )


@bench_cli.command("fairness")
def _fairness(
    seconds: Annotated[float, typer.Option(min=10, help="Seconds of each of the two measurements.")] = 20,
    waiting: Annotated[int, typer.Option(help="Events waiting for a dead endpoint.")] = 100_000,
    hanging: Annotated[int, typer.Option(help="Endpoints that never answer.")] = 500,
    rounds: Annotated[int, typer.Option(min=1, help="Rounds; medians are reported.")] = 3,
) -> None:
    """Measure the latency of a healthy endpoint, alone and beside endpoints that are dead or hang."""
    from bench import fairness

    _run(
        lambda settings: asyncio.run(fairness.run(seconds, waiting, hanging, rounds, settings.data_dir / "bench")),
        log_level="error",
    )


@bench_cli.command("accept")
def _accept(
    connections: Annotated[
        list[int] | None, typer.Option(help="Number of connections; may be repeated. Default: 1, 16 and 64.")
    ] = None,
    seconds: Annotated[float, typer.Option(min=1, help="Seconds of one round of one program.")] = 2,
    rounds: Annotated[int, typer.Option(min=1, help="Rounds; medians are reported.")] = 5,
    waiting: Annotated[int, typer.Option(min=0, help="Messages that wait in one of the measurements.")] = 100_000,
) -> None:
    """Measure messages accepted a second, compared with our API without its database, procrastinate and BullMQ."""
    import uvloop

    from bench import accept

    _run(
        lambda settings: uvloop.run(
            accept.run(connections or [1, 16, 64], seconds, rounds, waiting, settings.data_dir / "bench")
        ),
        log_level="error",
    )


@bench_cli.command("send")
def _send(
    lanes: Annotated[int, typer.Option(min=1, help="Accounts with messages.")] = 1000,
    each: Annotated[int, typer.Option(min=1, help="Messages of each account.")] = 10,
    workers: Annotated[int, typer.Option(min=1, help="Worker processes.")] = 2,
    rounds: Annotated[int, typer.Option(min=1, help="Rounds; medians are reported.")] = 5,
) -> None:
    """Measure messages sent a second when the browser takes no time, compared with a procrastinate job for each."""
    from bench import send

    _run(
        lambda settings: asyncio.run(send.run(send.Size(lanes, each, workers), rounds, settings.data_dir / "bench")),
        log_level="error",
    )


@bench_cli.command("lane")
def _lane(
    single: Annotated[int, typer.Option(min=100, help="Messages that are sent one at a time.")] = 300,
    row: Annotated[int, typer.Option(min=1, help="Messages that fall due at once.")] = 2000,
    rounds: Annotated[int, typer.Option(min=1, help="Rounds of these; medians are reported.")] = 5,
) -> None:
    """Measure one lane whose browser takes no time: what a message takes besides typing, and messages in a row."""
    from bench import lane

    _run(lambda settings: asyncio.run(lane.run(single, row, rounds, settings.data_dir / "bench")), log_level="error")


@bench_cli.command("start")
def _start(
    rounds: Annotated[int, typer.Option(min=1, help="Starts of each program; medians are reported.")] = 5,
) -> None:
    """Measure how long API and workers take until they are ready, and their memory then."""
    from bench import start

    _run(lambda settings: asyncio.run(start.run(rounds, settings.data_dir / "bench")), log_level="error")


@bench_cli.command("pulse")
def _pulse(
    lanes: Annotated[
        list[int] | None, typer.Option(help="Number of lanes; may be repeated. Default: a thousand and a million.")
    ] = None,
    turns: Annotated[int, typer.Option(min=2, help="Turns of the pulse; medians are reported.")] = 20,
) -> None:
    """Measure a turn of the pulse, which wakes lanes once a second, by the number of lanes."""
    from bench import pulse

    _run(
        lambda settings: asyncio.run(pulse.run(lanes or [1000, 1_000_000], turns, settings.data_dir / "bench")),
        log_level="error",
    )


@bench_cli.command("growth")
def _growth(
    history: Annotated[int, typer.Option(min=0, help="Jobs of the history.")] = 1_000_000,
    waiting: Annotated[int, typer.Option(min=0, help="Messages that wait in one lane.")] = 100_000,
    accounts: Annotated[int, typer.Option(min=100, help="Accounts.")] = 10_000,
    lanes: Annotated[int, typer.Option(min=110, help="Lanes: accounts and endpoints.")] = 1_000_000,
    rounds: Annotated[int, typer.Option(min=1, help="Rounds; medians are reported.")] = 5,
) -> None:
    """Fill a database, compare work on it with the same on an empty one, and time its lists."""
    import uvloop

    from bench import fill, growth

    size = fill.Size(history, events=history // 10, waiting=waiting, accounts=accounts, lanes=lanes)
    _run(lambda settings: uvloop.run(growth.run(size, rounds, settings.data_dir / "bench")), log_level="error")


@bench_cli.command("reports")
def _reports(
    history: Annotated[int, typer.Option(min=0, help="Jobs of the history.")] = 1_000_000,
    accounts: Annotated[int, typer.Option(min=100, help="Accounts.")] = 10_000,
    rounds: Annotated[int, typer.Option(min=1, help="How often each is asked; medians are reported.")] = 5,
) -> None:
    """Fill a database, roll up its days, and time the ten questions of docs/reporting.md."""
    from bench import fill, reports

    size = fill.Size(history, events=0, waiting=1000, accounts=accounts, lanes=accounts + 10)
    _run(lambda settings: asyncio.run(reports.run(size, rounds, settings.data_dir / "bench")), log_level="error")


@bench_cli.command("exports")
def _exports(
    rows: Annotated[int, typer.Option(min=1, help="Messages.")] = 1_000_000,
    rounds: Annotated[int, typer.Option(min=1, help="Exports in each form; medians are reported.")] = 3,
) -> None:
    """Measure exports of a report: their speed, the API's memory, and the latency of /send meanwhile."""
    from bench import exports

    _run(lambda settings: asyncio.run(exports.run(rows, rounds, settings.data_dir / "bench")), log_level="error")


@bench_cli.command("writes")
def _writes(messages: Annotated[int, typer.Option(min=1, help="Messages.")] = 200) -> None:
    """Measure what a message writes in Postgres, by table: bytes of the log, entries of indexes, updates."""
    from bench import writes

    _run(lambda settings: asyncio.run(writes.run(messages, settings.data_dir / "bench")), log_level="error")


@bench_cli.command("overload")
def _overload(
    minutes: Annotated[float, typer.Option(min=0.1, help="How long.")] = 30,
    times: Annotated[float, typer.Option(min=0.1, help="How many times what it carries.")] = 2,
) -> None:
    """Send more than an API process carries, and check that nothing is lost, nothing ends, and it recovers."""
    import uvloop

    from bench import overload

    _run(lambda settings: uvloop.run(overload.run(minutes, times, settings.data_dir / "bench")), log_level="error")


@bench_cli.command("flags")
def _flags(
    live: Annotated[
        list[int] | None, typer.Option(help="Number of live sessions; may be repeated. Default: 1, 5 and 10.")
    ] = None,
    chromium: Annotated[
        list[Path] | None, typer.Option(help="Path of a Chromium; may be repeated. Default: the one that is found.")
    ] = None,
    left_out: Annotated[
        int, typer.Option(min=0, help="Live sessions when each of our flags is left out in turn; 0 skips this part.")
    ] = 5,
    runs: Annotated[int, typer.Option(min=1, help="Number of runs; the median is reported.")] = 2,
) -> None:
    """Measure the memory of live sessions with Playwright's flags, with ours, and without each of ours."""
    from bench import flags

    _run(lambda _: asyncio.run(flags.run(live or [1, 5, 10], chromium or [], left_out, runs)), log_level="error")


def main() -> None:
    """Run the command line."""
    # Off until a command begins: garbage collection while modules are loaded takes a seventh of the start.
    gc.disable()
    cli()


if __name__ == "__main__":
    main()
