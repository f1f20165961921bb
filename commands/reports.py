"""`postrider reports`: logins of Postgres that read the reports of an org."""

from psycopg.conninfo import conninfo_to_dict

from commands import environment
from errors import OperatorError
from settings import Settings
from sql import report_logins


def create_login(settings: Settings, name: str, org: str | None, seconds: int) -> int:
    """Make a login for the reports of an org, and print it with its password, once. Raises OperatorError."""
    url = environment.migrated_database_url(settings)
    password = report_logins.create(url, name, org or _only_org(url), seconds)
    place = conninfo_to_dict(environment.database_url(settings))
    where = " ".join(f"{key}={place[key]}" for key in ("host", "port", "dbname") if place.get(key))
    print(f"login     {name}\npassword  {password}\nconnect   psql '{where} user={name}'")  # noqa: T201
    print("Store the password now: it is not shown again.")  # noqa: T201
    return 0


def show_logins(settings: Settings) -> int:
    """Print a line for every login for reports."""
    for row in report_logins.listed(environment.migrated_database_url(settings)):
        gone = "" if row["can_log_in"] else "  cannot log in"
        print(f"{row['login']:31} {row['org_id']:31} {row['created_at']:%Y-%m-%d %H:%M}{gone}")  # noqa: T201
    return 0


def revoke_login(settings: Settings, name: str) -> int:
    """Let a login read no reports any more. Raises OperatorError."""
    dropped = report_logins.revoke(environment.migrated_database_url(settings), name)
    print(f"{name} is dropped." if dropped else f"{name} reads no reports any more; the role itself stays.")  # noqa: T201
    return 0


def _only_org(url: str) -> str:
    orgs = report_logins.orgs(url)
    if len(orgs) > 1:
        raise OperatorError("There are several orgs: name one with --org, see `postrider orgs list`.")
    return orgs[0]
