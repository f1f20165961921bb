"""Logins for reports: one made by the command sees the reports of its own org, whatever it tries."""

from collections.abc import Iterator

import psycopg
import pytest
from fixtures_api import settings
from fixtures_postgres import as_login
from fixtures_tenancy import fill

from commands import reports
from errors import OperatorError
from settings import Settings

SHOP = "shop_reports"


@pytest.fixture
def filled(database_url: str) -> Iterator[Settings]:
    """Settings of a database with two orgs."""
    with psycopg.connect(database_url, autocommit=True) as connection:
        fill(connection)
    yield settings(database_url=database_url)
    with psycopg.connect(database_url, autocommit=True) as connection:
        for login in (SHOP, "analyst"):
            if connection.execute("select from pg_roles where rolname = %s", [login]).rowcount:
                connection.execute(f"drop owned by {login} cascade; drop role {login}".encode())


def url_of(given: Settings) -> str:
    assert given.database_url
    return given.database_url.get_secret_value()


def views(connection: psycopg.Connection) -> list[str]:
    rows = connection.execute("select viewname from pg_views where schemaname = 'report' order by 1").fetchall()
    return [name for (name,) in rows]


def test_it_sees_its_own_org_alone(filled: Settings, capsys: pytest.CaptureFixture[str]) -> None:
    assert reports.create_login(filled, SHOP, "org_bravo", 5) == 0
    said = capsys.readouterr().out
    assert f"login     {SHOP}\npassword  " in said
    assert f"user={SHOP}'" in said
    with psycopg.connect(as_login(url_of(filled), SHOP), autocommit=True) as connection:
        # By the name alone, for which its search_path is.
        assert connection.execute("select distinct org_id from daily_volume").fetchall() == [("org_bravo",)]
        assert connection.execute("show statement_timeout").fetchone() == ("5s",)
        for view in views(connection):
            assert connection.execute(f"select distinct org_id from report.{view}".encode()).fetchall() == [
                ("org_bravo",)
            ]


HOSTILE = [
    "set role postrider_views", "set role postrider_worker", "set role postrider_api", "set role postrider_owner",
    "select * from public.jobs", "select * from counted.days", "select * from public.report_days",
    "insert into public.report_logins values ('shop_reports', 'org_alfa')",
    "update public.report_logins set org_id = 'org_alfa'",
    "select public.count_day('acc_alfa', '2026-01-01')", "select public.take_report_marks(1, 1, '{}')",
    "select public.rolls_up_alone()", "select * from public.report_seal for update",
    "select door.wake('{acc_alfa}')", "select public.drop_old_partition(now())",
    "create function public.f() returns int language sql as 'select 1'", "create table report.t (i int)",
    "alter role shop_reports connection limit -1", "copy (select 1) to program 'true'",
]  # fmt: skip


@pytest.mark.parametrize("statement", HOSTILE)
def test_whatever_it_tries_is_refused(filled: Settings, statement: str) -> None:
    reports.create_login(filled, SHOP, "org_bravo", 5)
    with psycopg.connect(as_login(url_of(filled), SHOP), autocommit=True) as connection:
        connection.execute("set default_transaction_read_only = off; set search_path = public")
        connection.execute("set app.org = 'org_alfa'; set app.accounts = '*'")
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            connection.execute(statement.encode())


def test_what_it_may_do_shows_nothing_of_another(filled: Settings) -> None:
    """Functions, settings, plans and temporary things of its own."""
    reports.create_login(filled, SHOP, "org_bravo", 5)
    with psycopg.connect(as_login(url_of(filled), SHOP), autocommit=True) as connection:
        connection.execute("set default_transaction_read_only = off")
        for setting in ("app.org", "app.accounts"):
            connection.execute("select set_config(%s, 'org_alfa', false)", [setting])
        # What a view calls is not looked up by name when it is read.
        connection.execute("create function pg_temp.report_org() returns text language sql as $$ select 'org_alfa' $$")
        connection.execute("create temporary view jobs as select 'org_alfa' as org_id")
        connection.execute("set search_path = pg_temp, report, public")
        assert connection.execute("select * from report.pace('acc_alfa')").fetchall() == []
        assert len(connection.execute("select * from report.pace('acc_bravo')").fetchall()) == 1
        for view in views(connection):
            for query in ("select row_to_json(r)::text", "explain (analyze, verbose) select *"):
                rows = connection.execute(f"{query} from report.{view} as r".encode()).fetchall()
                assert "alfa" not in "".join(text for (text,) in rows), view


def test_they_are_listed_and_revoked(filled: Settings, capsys: pytest.CaptureFixture[str]) -> None:
    reports.create_login(filled, SHOP, "org_bravo", 60)
    with psycopg.connect(as_login(url_of(filled), SHOP), autocommit=True) as open_one:
        assert open_one.execute("select count(*) > 0 from jobs").fetchone() == (True,)
        capsys.readouterr()
        reports.show_logins(filled)
        assert f"{SHOP:31} org_bravo" in capsys.readouterr().out
        reports.revoke_login(filled, SHOP)
        assert capsys.readouterr().out == f"{SHOP} is dropped.\n"
        with pytest.raises(psycopg.Error):
            open_one.execute("select count(*) from jobs")
    with pytest.raises(psycopg.OperationalError):
        psycopg.connect(as_login(url_of(filled), SHOP))
    with pytest.raises(OperatorError, match="There is no login for reports shop_reports"):
        reports.revoke_login(filled, SHOP)


def test_a_role_that_somebody_made_stays(filled: Settings, capsys: pytest.CaptureFixture[str]) -> None:
    with psycopg.connect(url_of(filled), autocommit=True) as connection:
        connection.execute("create role analyst login in role postrider_report")
        connection.execute("insert into report_logins (login, org_id) values ('analyst', 'org_alfa')")
    with pytest.raises(OperatorError, match="There is a role analyst in this Postgres already"):
        reports.create_login(filled, "analyst", "org_bravo", 60)
    reports.revoke_login(filled, "analyst")
    assert capsys.readouterr().out == "analyst reads no reports any more; the role itself stays.\n"
    with (
        psycopg.connect(as_login(url_of(filled), "analyst")) as connection,
        pytest.raises(psycopg.errors.InsufficientPrivilege),
    ):
        connection.execute("select * from report.jobs")


@pytest.mark.parametrize(
    "name", ["Shop", "pg_shop", "postrider_shop", "shop-reports", "1shop", "", "a" * 64, 'x"; drop']
)
def test_a_name_that_no_login_may_have_is_refused(filled: Settings, name: str) -> None:
    with pytest.raises(OperatorError, match="is not a name for a login"):
        reports.create_login(filled, name, "org_bravo", 60)


def test_the_org_must_be_one_and_named_where_there_are_several(filled: Settings) -> None:
    with pytest.raises(OperatorError, match="There is no org org_nothing: see `postrider orgs list`"):
        reports.create_login(filled, SHOP, "org_nothing", 60)
    with pytest.raises(OperatorError, match="There are several orgs: name one with --org"):
        reports.create_login(filled, SHOP, None, 60)


def test_a_login_that_may_make_none_says_what_to_do(filled: Settings) -> None:
    with psycopg.connect(url_of(filled), autocommit=True) as connection:
        connection.execute("create role analyst login in role postrider_owner")
    weak = settings(database_url=as_login(url_of(filled), "analyst"))
    with pytest.raises(OperatorError, match=r"The login analyst may not do that .*: set MIGRATION_DATABASE_URL"):
        reports.create_login(weak, SHOP, "org_bravo", 60)
    with psycopg.connect(url_of(filled)) as connection:
        assert connection.execute("select count(*) from report_logins where login = %s", [SHOP]).fetchone() == (0,)
