"""The commands: demo, up, api, worker, migrate, doctor, keys."""

import sys
from collections.abc import Callable
from typing import Annotated

import typer

import logs
from commands import compose, demo, doctor, keys, serve, up
from errors import OperatorError, PostriderError
from settings import Settings
from sql import schema

cli = typer.Typer(
    no_args_is_help=True, add_completion=False, help="Sends WhatsApp messages from a Postgres task table."
)
keys_cli = typer.Typer(no_args_is_help=True, help="Create, list and revoke keys of the HTTP API.")
cli.add_typer(keys_cli, name="keys")


def _run(work: Callable[[Settings], int], *, log_level: str | None = None) -> None:
    """Run a command on the settings; what stops it is one line on standard error, and exit code 1."""
    try:
        settings = compose.load()
        logs.configure(log_level or settings.log_level, plain=sys.stderr.isatty())
        code = work(settings)
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
    _run(lambda settings: demo.run_demo(settings.data_dir), log_level="error")


@cli.command("up")
def _up() -> None:
    """Run the whole service on this machine until Ctrl-C: Postgres, API, worker, sandbox."""
    _run(up.run_up)


@cli.command("api")
def _api() -> None:
    """Serve the HTTP API."""
    _run(serve.run_api)


@cli.command("worker")
def _worker() -> None:
    """Send messages and deliver webhooks."""
    _run(serve.run_worker)


@cli.command("migrate")
def _migrate() -> None:
    """Bring the database's schema up to this version."""

    def work(settings: Settings) -> int:
        url = compose.database_url(settings)
        compose.wait_for_database(url)
        applied = schema.migrate(url)
        typer.echo(f"Applied {', '.join(applied)}." if applied else "Nothing to do: the schema is up to date.")
        return 0

    _run(work)


@cli.command("doctor")
def _doctor(
    account: Annotated[
        str | None, typer.Option(help="Open this account's page and report each selector found or missing.")
    ] = None,
) -> None:
    """Check settings, database, schema, clock, Chromium and disk."""
    _run(lambda settings: doctor.run_doctor(settings, account))


@keys_cli.command("create")
def _create(
    name: Annotated[str, typer.Argument(help="What people call it.")],
    *,
    signed: Annotated[bool, typer.Option(help="Requests with it must be signed.")] = False,
) -> None:
    """Create a key and print it, once."""
    _run(lambda settings: keys.create(settings, name, signed=signed))


@keys_cli.command("list")
def _list() -> None:
    """List the keys."""
    _run(keys.show)


@keys_cli.command("revoke")
def _revoke(key_id: Annotated[str, typer.Argument(help="Its id, key_…")]) -> None:
    """Let a key work no more."""
    _run(lambda settings: keys.revoke(settings, key_id))


def main() -> None:
    """Run the command line."""
    cli()


if __name__ == "__main__":
    main()
