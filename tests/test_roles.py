"""Roles of Postgres: who makes them, who takes them, and what no process starts without."""

import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest
from fixtures_api import settings
from fixtures_house import cluster
from fixtures_postgres import as_login, open_folder, with_database
from fixtures_tenancy import OURS, ROOT, THEIRS, digest, fill
from psycopg.conninfo import conninfo_to_dict
from psycopg.sql import SQL, Identifier

from commands import environment
from errors import RolesWrong, SchemaWrong
from sql import embedded, report_logins, roles, schema
from sql.database import Database
from sql.roles import Role

DEPLOY = (ROOT / "docs/deploy.md").read_text()
#: Who owns each table, view and function.
OWNERS = """
    select relname, pg_get_userbyid(relowner) from pg_class
    where relnamespace = any (array['public', 'report', 'counted']::regnamespace[]) and relkind in ('r', 'p', 'v')
    union all
    select proname || oidvectortypes(proargtypes), pg_get_userbyid(proowner) from pg_proc
    where pronamespace = any (array['public', 'door', 'report']::regnamespace[])
    union all
    select nspname, pg_get_userbyid(nspowner) from pg_namespace where nspname in ('report', 'counted', 'door')
    order by 1, 2
"""
LOGIN, OTHER, ADMIN = "postrider_test_login", "postrider_test_other", "postrider_test_admin"


def test_each_thing_in_the_schema_public_is_found_by_its_name_in_a_migration(database_url: str) -> None:
    """By it a restored dump is given back to its owner. What is procrastinate's and yoyo's has their prefix."""
    with psycopg.connect(database_url) as connection:
        rows = connection.execute(
            """
            select relname from pg_class where relnamespace = 'public'::regnamespace and relkind in ('r', 'p', 'v', 'c')
              and not relispartition
            union select proname from pg_proc where pronamespace = 'public'::regnamespace
            """
        ).fetchall()
    ours = {name for (name,) in rows if not re.match("_?yoyo|procrastinate", name)}
    assert {"jobs", "report_org", "report_accounts", "histogram"} < ours
    assert ours - set(roles.made_by(schema.FOLDER)) == set()


@pytest.fixture
def logins(postgres: str) -> Iterator[dict[str, str]]:
    """A database of a login that may make no roles, as of a service, and one that may; name → URL."""
    with psycopg.connect(postgres, autocommit=True) as connection:
        drop(connection)
        connection.execute(
            f"create role {LOGIN} login; create role {OTHER} login; create role {ADMIN} login createrole"
        )
        connection.execute(f"create database {LOGIN} owner {LOGIN}")
        connection.execute(f"grant create on database {LOGIN} to {ADMIN} with grant option")
        yield {name: as_login(with_database(postgres, LOGIN), name) for name in (LOGIN, OTHER, ADMIN)}
        drop(connection)


def drop(connection: psycopg.Connection[Any]) -> None:
    connection.execute(f"drop database if exists {LOGIN} with (force)")
    for name in (LOGIN, OTHER, ADMIN):
        for role in Role:
            known = "select from pg_roles where rolname = %s"
            if connection.execute(known, [name]).rowcount and connection.execute(known, [role]).rowcount:
                connection.execute(SQL("revoke {} from {}").format(Identifier(role), Identifier(name)))
        connection.execute(SQL("drop role if exists {}").format(Identifier(name)))


def test_a_login_that_may_make_no_roles_is_told_the_statements(postgres: str, logins: dict[str, str]) -> None:
    with pytest.raises(RolesWrong) as raised:
        schema.migrate(logins[LOGIN])
    said = str(raised.value)
    assert f"{LOGIN} may not make the roles" in said
    statements = said[said.index(":") + 1 :].strip()
    # What it says is enough.
    with psycopg.connect(with_database(postgres, LOGIN), autocommit=True) as connection:
        connection.execute(statements.encode())
    assert schema.migrate(logins[LOGIN])
    for role in (Role.API, Role.WORKER):
        roles.check(logins[LOGIN], role)
    assert schema.migrate(logins[LOGIN]) == []


def test_a_migration_by_another_login_lets_the_service_take_its_roles(postgres: str, logins: dict[str, str]) -> None:
    schema.migrate(with_database(postgres, LOGIN), service=OTHER)
    roles.check(logins[OTHER], Role.API)
    roles.check(logins[OTHER], Role.WORKER)
    with psycopg.connect(logins[OTHER]) as connection, pytest.raises(psycopg.errors.InsufficientPrivilege):
        connection.execute(f"set role {Role.OWNER}")


def test_a_login_of_its_own_for_the_api_is_no_worker(postgres: str, logins: dict[str, str]) -> None:
    """The hard fence: what runs as the API cannot become anything else."""
    schema.migrate(with_database(postgres, LOGIN))
    with psycopg.connect(postgres, autocommit=True) as connection:
        connection.execute(f"grant {Role.API} to {OTHER}")
    roles.check(logins[OTHER], Role.API)
    with pytest.raises(RolesWrong, match=f"may not take the role {Role.WORKER}.*grant .*{Role.WORKER}.* to .*{OTHER}"):
        roles.check(logins[OTHER], Role.WORKER)
    with psycopg.connect(logins[OTHER], autocommit=True) as connection:
        assert connection.execute("select count(*) from jobs").fetchone() == (0,)
        for statement in ("select * from procrastinate_jobs", "select * from qr_tokens", f"set role {Role.OWNER}"):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                connection.execute(statement.encode())


def test_no_process_starts_as_what_it_may_not_be(postgres: str, logins: dict[str, str]) -> None:
    url = with_database(postgres, LOGIN)
    with pytest.raises(SchemaWrong, match="postrider migrate"):
        environment.ready_database_url(settings(database_url=url), Role.API)
    schema.migrate(url)
    assert environment.ready_database_url(settings(database_url=url), Role.API) == url
    with pytest.raises(RolesWrong, match=f"{OTHER} may not read this database: run `postrider migrate`"):
        environment.ready_database_url(settings(database_url=logins[OTHER]), Role.API)


async def test_a_pooler_that_drops_the_options_of_a_connection_lets_no_one_be_more(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(roles, "option", lambda _: "-c timezone=utc")
    for role in roles.TAKEN:
        async with Database(database_url, role) as database, database.transaction() as tx:
            assert await (await tx.connection.execute("select current_user")).fetchone() == (role,)


@pytest.mark.parametrize(
    ("mistake", "said"),
    [
        (
            "alter table jobs disable row level security",
            "The policies of the table jobs are switched off: run alter table",
        ),
        (
            "alter database {database} set app.org = 'org_default'; alter database {database} set app.accounts = '*'",
            "app.org is set for",
        ),
        (
            "alter policy tenant on jobs using (true); alter policy accounts on jobs using (true)",
            "The policy tenant of the table jobs was changed",
        ),
        (
            "alter view counted.messages owner to current_user",
            r"The view counted\.messages shows what \w+ sees, and not one org: run `postrider migrate`",
        ),
    ],
)
def test_an_api_that_would_be_bound_by_nothing_does_not_start(database_url: str, mistake: str, said: str) -> None:
    roles.check(database_url, Role.API)
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute(
            "insert into jobs (id, org_id, account_id, content_hash, phone, message, state, due_at, send_at, expires_at"
            ", ended_at) values ('j', 'org_default', 'a', '', '1', 'Hi', 'failed', now(), now(), now(), now())"
        )
        name = conninfo_to_dict(database_url)["dbname"]
        connection.execute(mistake.format(database=name).encode())
        with pytest.raises(RolesWrong, match=said):
            roles.check(database_url, Role.API)
        connection.execute("delete from jobs")


def test_what_older_versions_made_becomes_the_owner_s(database_url: str) -> None:
    owned = """
        select count(*) from pg_class where relnamespace = 'public'::regnamespace and relkind in ('r', 'p', 'v')
        and pg_get_userbyid(relowner) = current_user
    """
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute("create table of_somebody_else ()")
        for kind, name in (
            ("table", "jobs"),
            ("table", "procrastinate_jobs"),
            ("view", "all_jobs"),
            ("table", "outbox_default"),
        ):
            connection.execute(f"alter {kind} {name} owner to current_user".encode())
        connection.execute("alter function ensure_partitions() owner to current_user")
        connection.execute("alter type procrastinate_job_status owner to current_user")
        assert connection.execute(owned).fetchone() == (5,)
        roles.adopt(connection, schema.FOLDER, "1s")
        assert connection.execute(owned).fetchone() == (1,), "what is not ours is left alone"
        assert connection.execute("select to_regclass('of_somebody_else') is null").fetchone() == (False,)


async def test_the_service_works_on_a_login_for_each_process(
    postgres: str, logins: dict[str, str], tmp_path: Path
) -> None:
    """As docs/tenancy.md recommends: what runs as the API can take no other role, and neither can a worker."""
    schema.migrate(with_database(postgres, LOGIN))
    with psycopg.connect(postgres, autocommit=True) as connection:
        connection.execute(f"grant {Role.API} to {LOGIN}; grant {Role.WORKER} to {OTHER}")
    async with cluster(tmp_path, logins[LOGIN]) as it:
        await it.start("worker", DATABASE_URL=logins[OTHER])
        account = await it.link()
        job = await it.send(account, "15556660001")
        assert (await it.ended(job))["sentAt"]
        assert (await it.event(job))["type"] == "JobCompleted"
        assert (await it.client.get("/jobs"))["items"][0]["jobId"] == job


@pytest.mark.long
def test_a_dump_is_whole_and_is_restored_on_another_server(
    postgres: str, logins: dict[str, str], tmp_path: Path
) -> None:
    """As docs/deploy.md says."""
    schema.migrate(with_database(postgres, LOGIN), service=LOGIN)
    file = tmp_path / "postrider.dump"
    with psycopg.connect(with_database(postgres, LOGIN), autocommit=True) as connection:
        fill(connection)
        before = [digest(connection, org) for org in (OURS, THEIRS)]
        owners = connection.execute(OWNERS).fetchall()
        connection.execute(f"grant {Role.OWNER} to {LOGIN}")
    dump = [str(embedded.program("pg_dump")), "--format=custom"]
    subprocess.run([*dump, f"--file={file}", logins[LOGIN]], check=True)
    refused = subprocess.run([*dump, logins[OTHER]], check=False, capture_output=True)
    assert refused.returncode, "it would lack what its login does not see"
    with other_server() as url:
        schema.make_roles(url)
        (options,) = re.findall(r"^pg_restore (.*) --dbname", DEPLOY, re.MULTILINE)
        restore = [str(embedded.program("pg_restore")), *options.split(), "--dbname", url, str(file)]
        subprocess.run(restore, check=True)
        assert schema.migrate(url) == []
        for role in roles.TAKEN:
            roles.check(url, role)
        with psycopg.connect(as_login(url, "postgres")) as connection:
            assert [digest(connection, org) for org in (OURS, THEIRS)] == before
            assert connection.execute(OWNERS).fetchall() == owners


@contextmanager
def other_server() -> Iterator[str]:
    """Start a server that has none of our roles; give the URL of a login that may make roles, on its own database."""
    with open_folder() as folder:
        server = embedded.start(folder)
        try:
            with psycopg.connect(server, autocommit=True) as connection:
                connection.execute(f"create role {ADMIN} login createrole")
                connection.execute(f"create database {ADMIN} owner {ADMIN}")
            yield as_login(with_database(server, ADMIN), ADMIN)
        finally:
            embedded.stop_server(folder)


@pytest.mark.long
def test_a_login_that_may_make_roles_migrates_on_a_server_that_has_none() -> None:
    with other_server() as url:
        assert schema.migrate(url)
        assert schema.migrate(url) == []
        for role in roles.TAKEN:
            roles.check(url, role)
        with psycopg.connect(url) as connection:
            assert connection.execute("select rolsuper from pg_roles where rolname = current_user").fetchone() == (
                False,
            )
        # And makes logins for reports.
        report_logins.create(url, "shop_reports", "org_default", 5)
        with psycopg.connect(as_login(url, "shop_reports")) as connection:
            assert connection.execute("select count(*) from daily_volume").fetchone() == (0,)
            assert connection.execute("show statement_timeout").fetchone() == ("5s",)
        assert [row["login"] for row in report_logins.listed(url)][-1] == "shop_reports"
        assert report_logins.revoke(url, "shop_reports")


@pytest.mark.long
def test_processes_of_before_go_on_as_the_login_that_made_the_tables(migrations: Path) -> None:
    """An administrator migrates, and not that login; it is no superuser, and the new policies bind it not."""
    newer = {path: path.read_text() for path in migrations.iterdir() if path.name >= "0029"}
    for path in newer:
        path.unlink()
    with other_server() as url:
        admin = as_login(url, "postgres")
        schema.migrate(url)
        with psycopg.connect(url, autocommit=True) as before:
            # As a version that knew no roles left it.
            with psycopg.connect(admin, autocommit=True) as connection:
                connection.execute(f"reassign owned by {Role.OWNER} to {ADMIN}")
                for role in (Role.API, Role.WORKER, Role.OWNER):
                    connection.execute(f"revoke {role} from {ADMIN} cascade")
            before.execute("insert into orgs (org_id, name) values ('org_2', 'Two')")
            for path, text in newer.items():
                path.write_text(text)
            assert schema.migrate(admin, service=ADMIN)
            assert before.execute("select count(*) from orgs").fetchone() == (2,)
            before.execute("update orgs set paused_at = now()")
            before.execute("select ensure_partitions(), drop_old_partition('2000-01-01')")
            before.execute("select count(*) from jobs, procrastinate_jobs, report.jobs")


def test_what_another_login_owns_is_told(logins: dict[str, str], postgres: str) -> None:
    schema.migrate(with_database(postgres, LOGIN), service=LOGIN)
    with psycopg.connect(with_database(postgres, LOGIN), autocommit=True) as connection:
        connection.execute(f"alter table jobs owner to {LOGIN}")
        for role in (Role.OWNER, *roles.TAKEN):
            connection.execute(f"grant {role} to {ADMIN}; grant {role} to {LOGIN}")
    with pytest.raises(
        RolesWrong, match=f"The table jobs belongs to another login than {ADMIN}: run `postrider migrate`"
    ):
        schema.migrate(logins[ADMIN])
    schema.migrate(logins[LOGIN])
