import base64
import re
from ipaddress import ip_address
from pathlib import Path

import pytest

from addresses import LOOPBACK, Addresses, network
from commands import reference
from commands.environment import load
from crypto import Sealer
from errors import SettingsWrong
from settings import Settings, read
from wiring import shared

KEY = base64.b64encode(bytes(32)).decode()
PRODUCTION = {"env": "production", "database_url": "postgresql://db/x", "api_key": "k" * 20, "encryption_key": KEY}


def test_the_documents_equal_the_table() -> None:
    assert reference.MARKDOWN.read_text() == reference.markdown(), "run `make reference`"
    assert reference.ENVIRONMENT.read_text() == reference.environment(), "run `make reference`"


def test_every_setting_is_read_somewhere() -> None:
    code = "".join(
        path.read_text()
        for pattern in ("cli.py", "commands/*.py", "wiring/*.py", "settings.py")
        for path in reference.ROOT.glob(pattern)
    )
    assert [name for name in Settings.model_fields if not re.search(rf"\b(settings|self)\.{name}\b", code)] == []


@pytest.mark.parametrize(
    ("name", "value", "sentence"),
    [
        ("port", "0", "PORT=0: Input should be greater than or equal to 1"),
        ("port", "http", "PORT=http: "),
        ("env", "prod", "ENV=prod: "),
        ("host", "nowhere", "HOST=nowhere: "),
        ("typing_delay_ms", "25-5", "TYPING_DELAY_MS=25-5: must be like 5-25"),
        ("lease_seconds", "3", "LEASE_SECONDS=3: "),
        ("log_level", "loud", "LOG_LEVEL=loud: "),
        ("webhook_allow_cidrs", "10.0.0.0/8,office", "WEBHOOK_ALLOW_CIDRS=10.0.0.0/8,office: must be networks such as"),
        ("proxy_allow_cidrs", "office", "PROXY_ALLOW_CIDRS=office: must be networks such as"),
        ("webhook_allow_cidrs", "0.0.0.0/0", "WEBHOOK_ALLOW_CIDRS=0.0.0.0/0: must be networks of at most /8"),
    ],
)
def test_a_wrong_value_is_named_with_what_is_allowed(name: str, value: str, sentence: str) -> None:
    with pytest.raises(SettingsWrong) as caught:
        read(**{name: value})
    assert sentence in str(caught.value)


def test_what_is_confirmed_is_not_given_up_meanwhile() -> None:
    with pytest.raises(SettingsWrong, match="SETTLE_SECONDS must not be less than CONFIRM_SECONDS"):
        read(confirm_seconds=61, settle_seconds=60)


@pytest.mark.parametrize("name", ["api_key", "api_secret", "encryption_key"])
def test_a_wrong_secret_is_named_and_never_shown(name: str) -> None:
    with pytest.raises(SettingsWrong) as caught:
        read(**{name: "hunter2"})
    assert name.upper() in str(caught.value)
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("missing", ["database_url", "api_key", "encryption_key"])
def test_production_wants_its_secrets(missing: str) -> None:
    with pytest.raises(SettingsWrong, match=missing.upper()):
        read(**{**PRODUCTION, missing: None})
    assert read(**PRODUCTION).production


def test_development_generates_secrets_once_for_the_owner_alone(tmp_path: Path) -> None:
    first, second = load(data_dir=tmp_path / "new"), load(data_dir=tmp_path / "new")
    assert first.api_key
    assert first.api_key == second.api_key
    assert first.encryption_key == second.encryption_key
    assert {path.stat().st_mode & 0o777 for path in (tmp_path / "new").iterdir()} == {0o600}


def test_webhooks_may_go_to_loopback_in_development_and_where_they_are_told() -> None:
    assert read(_env_file=None).addresses == LOOPBACK
    assert read(**PRODUCTION).addresses == Addresses()
    for more in ({}, PRODUCTION):
        told = read(webhook_allow_cidrs="10.1.0.0/16, fd12::/16", **more).addresses
        assert told == Addresses((network("10.1.0.0/16"), network("fd12::/16")))


def test_proxies_may_be_on_loopback_in_development_and_where_they_are_told() -> None:
    assert read(_env_file=None).proxy_addresses == Addresses(LOOPBACK.allowed, "PROXY_ALLOW_CIDRS")
    assert read(**PRODUCTION).proxy_addresses == Addresses((), "PROXY_ALLOW_CIDRS")
    told = read(proxy_allow_cidrs="10.1.0.0/16", **PRODUCTION).proxy_addresses
    assert told.allowed == (network("10.1.0.0/16"),)
    assert "PROXY_ALLOW_CIDRS" in (told.refusal([ip_address("10.2.0.1")], 3128) or "")


def test_secrets_are_masked(tmp_path: Path) -> None:
    settings = load(data_dir=tmp_path, api_key="hunter2hunter2hunter2", database_url="postgresql://u:hunter2@h/x")
    assert "hunter2" not in repr(settings) + str(settings)


@pytest.mark.parametrize(
    "name", ["API_KEY", "API_SECRET", "ADMIN_KEY", "WEBHOOK_SECRET", "SELECTORS_KEY", "WEBHOOK_URL"]
)
@pytest.mark.parametrize("where", ["environment", "file", "argument"])
def test_white_space_around_a_value_is_cut_off(
    name: str, where: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    value, given = "k" * 20, " \t" + "k" * 20 + " \r\n"
    env_file, values = tmp_path / ".env", {"webhook_secret": "s"} if name == "WEBHOOK_URL" else {}
    if where == "environment":
        monkeypatch.setenv(name, given)
    elif where == "file":
        env_file.write_text(f'{name}="{given}"')
    else:
        values[name.lower()] = given
    found = getattr(read(**values, _env_file=env_file), name.lower())
    assert (found if isinstance(found, str) else found.get_secret_value()) == value


@pytest.mark.parametrize("name", [name for name in Settings.model_fields if name != "env"])
def test_a_value_of_nothing_but_white_space_counts_as_unset(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name.upper(), " \t\n")
    assert getattr(read(_env_file=None), name) == Settings.model_fields[name].default
    (tmp_path / ".env").write_text("LOG_LEVEL=error")
    monkeypatch.setenv("LOG_LEVEL", " ")
    assert read(_env_file=tmp_path / ".env").log_level == "error", "what the file says holds then"


def test_in_production_white_space_is_no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("API_KEY", " " * 20)
    with pytest.raises(SettingsWrong, match="API_KEY must be set"):
        read(**{**PRODUCTION, "api_key": None})


def test_encryption_keys_stand_between_commas_with_white_space_or_without(tmp_path: Path) -> None:
    other = base64.b64encode(bytes([1] * 32)).decode()
    given = load(data_dir=tmp_path, encryption_key=f" {KEY} ,\n {other}\n", _env_file=None)
    assert shared.sealer(given).fingerprints == Sealer.from_text(f"{KEY},{other}").fingerprints
    for wrong in (f"{KEY},", f",{KEY}", f"{KEY},,{other}", f"{KEY} {other}"):
        with pytest.raises(SettingsWrong, match="ENCRYPTION_KEY: each key must be 32 bytes in base64"):
            load(data_dir=tmp_path, encryption_key=wrong, _env_file=None)


@pytest.mark.parametrize(("name", "rule"), [("api_key", "at least 16 characters"), ("encryption_key", "in base64")])
def test_a_kept_secret_that_was_spoilt_is_refused_by_its_place(name: str, rule: str, tmp_path: Path) -> None:
    for text, line in (("", f"{tmp_path / name} is empty"), ("hunter2", f"In {tmp_path}: {name.upper()}: .*{rule}")):
        (tmp_path / name).write_text(text)
        with pytest.raises(SettingsWrong, match=line) as caught:
            load(data_dir=tmp_path, _env_file=None)
        assert "hunter2" not in str(caught.value)
