"""Dockerfile, docker-compose.yml, fly.toml and docs/deploy.md name only what this repository has."""

import http.server
import json
import re
import shlex
import subprocess
import sys
import threading
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from fnmatch import fnmatch
from pathlib import Path
from typing import Any, cast

import pytest
import typer.main
from pydantic import SecretStr
from starlette.routing import Route

import app
from browser.engine.chromium import SYSTEM
from cli import cli
from commands.chromium import PACKAGES
from commands.worker import health_app
from errors import SettingsWrong
from server import GRACE
from settings import Settings, read
from tasks.worker import STOP_LIMIT

ROOT = Path(__file__).parent.parent
DOCKERFILE, COMPOSE, DEPLOY = (
    (ROOT / name).read_text() for name in ("Dockerfile", "docker-compose.yml", "docs/deploy.md")
)
FLY = tomllib.loads((ROOT / "fly.toml").read_text())
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
IGNORED = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line and not line.startswith("#")]

NAMES = {name.upper() for name in Settings.model_fields}
SECRETS = {name.upper() for name, field in Settings.model_fields.items() if "SecretStr" in str(field.annotation)}
COMMANDS = set(typer.main.get_command(cli).commands)  # type: ignore[attr-defined]  # a group
#: what the files name besides our settings: Python's, pip's and Postgres's
FOREIGN = {"PATH", "PYTHONUNBUFFERED", "POSTGRES_USER", "POSTGRES_PASSWORD", "POSTGRES_DB"}
OTHER_WORDS = {
    "CREATEROLE",
    "POSTGRES_PASSWORD",
    "LISTEN",
    "SIGTERM",
    "DELETE",
    "POST",
    "GET",
    "NAME",
    "URL",
    "ACCOUNT",
    "JOB",
    "SSL_CERT_FILE",
    "TMPDIR",
}
PORTS = {"web": "PORT", "worker": "WORKER_PORT"}


# --- the files, taken apart --------------------------------------------------------------------------------------


def stages() -> list[list[tuple[str, str]]]:
    """Return the instructions of each stage of the Dockerfile, as (name, rest)."""
    lines = [line for line in DOCKERFILE.splitlines() if not line.startswith("#")]
    found: list[list[tuple[str, str]]] = []
    for line in "\n".join(lines).replace("\\\n", "").splitlines():
        if line.strip():
            name, rest = line.split(maxsplit=1)
            if name == "FROM":
                found.append([])
            found[-1].append((name, rest))
    return found


BUILD, IMAGE = stages()


def every(name: str, stage: list[tuple[str, str]]) -> list[str]:
    return [rest for instruction, rest in stage if instruction == name]


def only(name: str) -> str:
    (rest,) = every(name, IMAGE)
    return rest


def image_env() -> dict[str, str]:
    return dict(pair.split("=", 1) for pair in shlex.split(only("ENV")))


def packages(stage: list[tuple[str, str]]) -> set[str]:
    (line,) = (run for run in every("RUN", stage) if "apt-get install" in run)
    words = line.split("apt-get install")[1].split("&&")[0].split()
    return {word for word in words if not word.startswith("-")}


def services() -> dict[str, str]:
    """Return the text of each service of the compose file. No YAML parser is a dependency of ours."""
    section = COMPOSE.split("\nservices:\n")[1].split("\nvolumes:\n")[0]
    parts = re.split(r"^  ([a-z]+):\n", section, flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def common() -> str:
    """Return what api, worker and migrate of the compose file share."""
    return COMPOSE.split("\nx-postrider: &postrider\n")[1].split("\nservices:\n")[0]


def seconds(text: str) -> int:
    assert text.endswith("s"), text
    return int(text[:-1])


# --- Dockerfile --------------------------------------------------------------------------------------------------


def copied() -> set[str]:
    sources: set[str] = set()
    for rest in every("COPY", BUILD):
        *paths, target = rest.split()
        sources.update(paths)
        for path in paths:
            assert target == (f"{path}/" if (ROOT / path).is_dir() else "./"), f"COPY {rest} would rename {path}"
    return sources


def test_the_image_is_built_from_all_that_the_wheel_holds() -> None:
    wheel = set(PROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]["only-include"])
    about = {"pyproject.toml", PROJECT["project"]["readme"], *PROJECT["project"]["license-files"]}
    assert copied() == wheel | about | {"requirements.lock"}
    assert [path for path in copied() if not (ROOT / path).exists()] == []


def test_nothing_that_the_build_reads_is_ignored() -> None:
    assert {path for path in copied() for pattern in IGNORED if fnmatch(path, pattern.removeprefix("**/"))} == set()


def test_what_git_ignores_stays_out_of_the_image_too() -> None:
    patterns = {line.rstrip("/") for line in (ROOT / ".gitignore").read_text().splitlines() if line.strip()}
    assert patterns - {pattern.removeprefix("**/") for pattern in IGNORED} == set()
    assert {".git", ".env", ".data"} <= {pattern.removeprefix("**/") for pattern in IGNORED}


def test_the_packages_are_checked_by_hash_and_then_taken_from_disk() -> None:
    (download,) = (run for run in every("RUN", BUILD) if "pip download" in run)
    assert "--require-hashes" in download
    assert "--requirement requirements.lock" in download
    assert "PIP_NO_INDEX=1" in " ".join(every("ENV", BUILD))
    for tool in PROJECT["build-system"]["requires"]:
        name = re.split(r"[<>=]", tool)[0]
        assert re.search(rf"^{name}==", (ROOT / "requirements.lock").read_text(), re.MULTILINE), f"{name} is not locked"


def test_the_image_carries_a_chromium_that_is_looked_for_and_no_tools() -> None:
    assert packages(IMAGE) & set(PACKAGES) & set(SYSTEM)
    assert {"tini", "python3", "libatomic1", "ca-certificates", "fonts-noto-color-emoji"} <= packages(IMAGE)
    assert [name for name in packages(IMAGE) if re.search(r"pip|venv|gcc|g\+\+|make|build|-dev$|git$|curl", name)] == []
    assert every("COPY", IMAGE) == ["--from=build /opt/postrider /opt/postrider"]


def test_the_image_runs_as_a_user_who_owns_the_volume() -> None:
    user = only("USER")
    assert user not in {"root", "0"}
    (setup,) = every("RUN", IMAGE)
    assert re.search(rf"useradd .*\b{user}\b", setup)
    assert re.search(rf"install --directory --owner={user} .*--mode=0700 {re.escape(only('VOLUME'))}\b", setup)
    assert image_env()["DATA_DIR"] == only("VOLUME")


def test_signals_reach_the_process() -> None:
    entry, command = json.loads(only("ENTRYPOINT")), json.loads(only("CMD"))
    assert entry[0] in packages(IMAGE)
    assert "-g" not in entry, "the browsers must outlive the signal"
    assert command[0] in PROJECT["project"]["scripts"]
    assert command[1:] == ["api"]


def test_the_image_s_environment_is_allowed() -> None:
    environment = image_env()
    assert set(environment) - NAMES <= FOREIGN
    values = {name.lower(): value for name, value in environment.items() if name in NAMES}
    settings = read(_env_file=None, **secrets(), **values)
    assert settings.production
    assert settings.host == "0.0.0.0"  # noqa: S104  # a container is reached from outside
    assert {settings.port, settings.worker_port} == {int(port) for port in only("EXPOSE").split()}


def secrets() -> dict[str, object]:
    return {
        "database_url": SecretStr("postgresql://postrider:made-up@db/postrider"),
        "api_key": SecretStr("key_made_up_for_this_test"),
        "encryption_key": SecretStr("A" * 43 + "="),
    }


@pytest.mark.parametrize(("command", "variable"), [("api", "PORT"), ("worker", "WORKER_PORT")])
def test_the_health_check_asks_the_port_of_its_command(command: str, variable: str, tmp_path: Path) -> None:
    cmdline = tmp_path / "cmdline"
    cmdline.write_bytes(b"\0".join([b"tini", b"-s", b"--", b"postrider", command.encode(), b""]))
    python, flag, code = json.loads(only("HEALTHCHECK").split("CMD", 1)[1])
    assert (python, flag) == ("python", "-c")
    assert "/proc/1/cmdline" in code
    code = code.replace("/proc/1/cmdline", str(cmdline))

    def run(port: int) -> int:
        ports = {"PORT": "1", "WORKER_PORT": "1"} | {variable: str(port)}
        return subprocess.run([sys.executable, "-c", code], env=ports, check=False, capture_output=True).returncode

    with answering(200) as port:
        assert run(port) == 0
    with answering(503) as port:
        assert run(port) != 0
    assert run(1) != 0


@contextmanager
def answering(status: int) -> Iterator[int]:
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status if self.path == "/healthz" else 404)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server.server_port
        finally:
            server.shutdown()
            thread.join()


# --- fly.toml ----------------------------------------------------------------------------------------------------


def test_fly_runs_our_commands() -> None:
    commands = [*FLY["processes"].values(), FLY["deploy"]["release_command"]]
    assert commands == ["postrider api", "postrider worker", "postrider migrate"]
    assert {command.split()[1] for command in commands} <= COMMANDS
    # Fly puts them behind the ENTRYPOINT, which therefore must not name postrider again.
    assert "postrider" not in only("ENTRYPOINT")
    assert (ROOT / FLY["build"]["dockerfile"]).exists()


def test_fly_s_environment_is_allowed() -> None:
    assert set(FLY["env"]) <= NAMES - SECRETS
    settings = read(_env_file=None, **secrets(), **{name.lower(): value for name, value in FLY["env"].items()})
    assert settings.production


def test_fly_asks_paths_that_exist_on_the_ports_that_are_served() -> None:
    service, environment = FLY["http_service"], image_env() | FLY["env"]
    assert service["processes"] == ["web"]
    assert str(service["internal_port"]) == environment["PORT"]
    assert [check["path"] for check in service["checks"] if check["path"] not in paths("web")] == []
    for check in FLY["checks"].values():
        (process,) = check["processes"]
        assert str(check["port"]) == environment[PORTS[process]]
        assert check["path"] in paths(process)
    assert {process for check in FLY["checks"].values() for process in check["processes"]} == set(FLY["processes"])


def paths(process: str) -> set[str]:
    if process == "web":
        return {operation.path for operation in app.OPERATIONS if operation.method == "GET" and operation.open}
    health = health_app(cast("Any", None), read(_env_file=None, **secrets()))
    return {route.path for route in health.routes if isinstance(route, Route)}


def test_web_stops_and_starts_by_itself_and_the_worker_never_stops() -> None:
    service = FLY["http_service"]
    assert (service["auto_stop_machines"], service["auto_start_machines"]) == ("stop", True)
    assert "services" not in FLY, "a service of the worker would let Fly stop it"


def test_the_profiles_are_on_a_volume_of_the_worker_that_is_not_copied() -> None:
    (mount,) = FLY["mounts"]
    assert mount["processes"] == ["worker"]
    assert mount["destination"] == FLY["env"]["DATA_DIR"] == only("VOLUME")
    assert mount["scheduled_snapshots"] is False


def test_processes_are_named_alike_everywhere() -> None:
    parts = [FLY["http_service"], *FLY["checks"].values(), *FLY["mounts"], *FLY["restart"], *FLY["vm"]]
    assert {process for part in parts for process in part["processes"]} == set(FLY["processes"]) == set(PORTS)


# --- docker-compose.yml ------------------------------------------------------------------------------------------


def test_compose_runs_our_commands() -> None:
    ours = {name: text for name, text in services().items() if "<<: *postrider" in text}
    assert set(services()) - set(ours) == {"postgres"}
    for name, text in ours.items():
        (command,) = re.findall(r"^    command: (.*)$", text, re.MULTILINE)
        assert json.loads(command) == ["postrider", name]
        assert name in COMMANDS


def test_compose_s_environment_is_allowed() -> None:
    values = dict(re.findall(r"^ {4,6}([A-Z_]+): (.+)$", common(), re.MULTILINE))
    named = set(re.findall(r"^ {4,6}([A-Z_]+): ", COMPOSE, re.MULTILINE)) | set(re.findall(r"\$\{([A-Z_]+)", COMPOSE))
    assert named <= NAMES | FOREIGN
    plain = {name.lower(): value for name, value in values.items() if name != "DATABASE_URL"}
    assert read(_env_file=None, **secrets(), **plain).production
    assert {name: values[name] for name in image_env() if name in values} == {
        name: value for name, value in image_env().items() if name in values
    }
    assert re.findall(r"^  env_file: (.*)$", common(), re.MULTILINE) == [".env"]


def test_compose_s_parts_fit_together() -> None:
    volumes = set(re.findall(r"^  ([a-z]+):$", COMPOSE.split("\nvolumes:\n")[1], re.MULTILINE))
    mounts = dict(re.findall(r'volumes: \["([a-z]+):([^"]+)"\]', COMPOSE))
    assert set(mounts) == volumes
    assert mounts["profiles"] == only("VOLUME")
    waited = {
        name: re.findall(r"^      ([a-z]+): \{condition: (\w+)\}", text, re.MULTILINE)
        for name, text in services().items()
    }
    done = [("migrate", "service_completed_successfully")]
    assert waited == {"postgres": [], "migrate": [("postgres", "service_healthy")], "api": done, "worker": done}
    assert re.findall(r'ports: \["127\.0\.0\.1:\d+:(\d+)"\]', services()["api"]) == [image_env()["PORT"]]


def test_compose_has_no_default_password() -> None:
    assert set(re.findall(r"\$\{POSTGRES_PASSWORD[^}]*\}", COMPOSE)) == {"${POSTGRES_PASSWORD:?must be set in .env}"}
    assert re.findall(r"\$\{(\w+):?-", COMPOSE) == ["MAX_SESSIONS"]


# --- all of them -------------------------------------------------------------------------------------------------


def test_a_worker_is_given_the_time_that_it_needs_to_stop() -> None:
    (compose,) = re.findall(r"stop_grace_period: (\w+)", services()["worker"])
    (systemd,) = re.findall(r"^TimeoutStopSec=(\d+)$", DEPLOY, re.MULTILINE)
    needed = STOP_LIMIT + GRACE + 10  # the browsers' driver
    assert min(seconds(compose), int(systemd), FLY["kill_timeout"]) >= needed
    assert FLY["kill_signal"] == "SIGTERM"
    assert "KillMode=mixed" in DEPLOY
    (api,) = re.findall(r"stop_grace_period: (\w+)", services()["api"])
    assert seconds(api) > GRACE


@pytest.mark.parametrize("name", ["Dockerfile", "docker-compose.yml", "fly.toml", "docs/deploy.md"])
def test_no_secret_is_written_down(name: str) -> None:
    text = (ROOT / name).read_text()
    given = re.findall(rf"\b({'|'.join(sorted(SECRETS | {'POSTGRES_PASSWORD'}))})(?: ?= ?|: +)(\S+)", text)
    # What is allowed is another variable, something made on the spot, or a form with an ellipsis.
    allowed = re.compile(r"""["']?(key_)?\$[({A-Za-z]|["']?postgresql://(…|\w+:\$\{POSTGRES_PASSWORD)""")
    assert [pair for pair in given if not allowed.match(pair[1])] == []
    assert re.findall(r"[0-9a-f]{24,}|[A-Za-z0-9+/]{40,}=*|whsec_[A-Za-z0-9+/]{8,}", text) == []


def test_the_guide_names_what_there_is() -> None:
    assert set(re.findall(r"(?:/bin/|[`' ])postrider ([a-z]+)", DEPLOY)) - COMMANDS == set()
    words = set(re.findall(r"`([A-Z][A-Z_]+)(?:=[^`]*)?`", DEPLOY)) | set(re.findall(r"\b[A-Z]+_[A-Z_]+\b", DEPLOY))
    assert words - NAMES - OTHER_WORDS == set()
    calls = {(operation.method, re.sub(r"\{.*?\}", "$ACCOUNT", operation.path)) for operation in app.OPERATIONS}
    named = set(re.findall(r"`(GET|POST|DELETE) (/[a-z/]+)", DEPLOY)) | {
        ("POST" if "-X POST" in line or line.endswith("\\") else "GET", path)
        for line, path in re.findall(r'^(curl -s.*?\$URL(/[^"]+)".*)$', DEPLOY, re.MULTILINE)
    }
    assert len(named) > len(PORTS)
    assert named - calls == set()


def test_the_guide_s_links_lead_somewhere() -> None:
    headings = {
        re.sub(r"[^a-z0-9 -]", "", line.lower()).replace(" ", "-")
        for line in re.findall(r"^#+ (.*)$", DEPLOY, re.MULTILINE)
    }
    for link in re.findall(r"\]\(([^)]+)\)", DEPLOY):
        file, _, heading = link.partition("#")
        assert (ROOT / "docs" / file).exists() if file else heading in headings, link


def test_secrets_that_production_wants_are_in_the_guide() -> None:
    with pytest.raises(SettingsWrong) as caught:
        read(_env_file=None, env="production", database_url=None, api_key=None, encryption_key=None)
    wanted = set(re.findall(r"\b[A-Z_]+\b", caught.value.detail)) & SECRETS
    assert {"DATABASE_URL", "API_KEY", "ENCRYPTION_KEY"} <= wanted
    table = DEPLOY.split("## Secrets")[1].split("\n## ")[0]
    assert [name for name in wanted if f"`{name}`" not in table] == []
