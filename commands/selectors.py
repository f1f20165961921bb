"""`postrider selectors`: show the versions, pin one, check a file, make a key, sign a file."""

import os
from pathlib import Path

from browser.page.selectors import decode
from crypto import CryptoError, new_signing_key, sign_file
from errors import OperatorError
from settings import Settings
from tasks.web.selector_store import NEWEST, SHIPPED, age
from wiring.selectors import source


def show(settings: Settings) -> int:
    """Print every stored version, and the one that a worker with these settings uses."""
    found = source(settings)
    used = found.load()
    print(f"in use  {used.version} ({found.origin})")  # noqa: T201
    if pinned := found.store.pinned():
        print(f"pinned  {pinned}" + (", but SELECTORS_FILE takes precedence" if settings.selectors_file else ""))  # noqa: T201
    for version in found.store.versions():
        print(f"fetched {version}")  # noqa: T201
    return 0


def use(settings: Settings, version: str) -> int:
    """Pin a version or `shipped`, or unpin with `newest`. Workers of this DATA_DIR follow within seconds."""
    found = source(settings)
    found.store.pin(version)
    said = {NEWEST: "The newest selectors are used again", SHIPPED: "The shipped selectors are pinned"}
    print(f"{said.get(version, f'Selectors {version} are pinned')}; workers switch within seconds.")  # noqa: T201
    if settings.selectors_file:
        print(f"But SELECTORS_FILE={settings.selectors_file} is set, and takes precedence.")  # noqa: T201
    return 0


def check(path: Path) -> int:
    """Check a selectors file. Raise SelectorsWrong with what is wrong."""
    found = decode(_read(path))
    count = sum(len(tries) for tries in found.elements.values())
    print(f"{path} is valid: version {found.version}, {len(found.elements)} elements, {count} alternatives.")  # noqa: T201
    return 0


def keygen(path: Path) -> int:
    """Write a new private key to a file of mode 0600 and print its public half."""
    private, public = new_signing_key()
    try:
        with os.fdopen(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "w") as file:
            file.write(f"{private}\n")
    except FileExistsError:
        raise OperatorError(f"{path} exists already: choose another name.") from None
    except OSError as error:
        raise OperatorError(f"{path} cannot be written: {error.strerror}.") from None
    print(f"The private key is in {path}: keep it away from the workers.\nSELECTORS_KEY={public}")  # noqa: T201
    return 0


def sign(path: Path, key: Path) -> int:
    """Check a selectors file and write its signature beside it."""
    content = _read(path)
    version = decode(content).version
    age(version)
    try:
        signature = sign_file(_read(key).decode("ascii"), content)
    except (CryptoError, UnicodeDecodeError) as error:
        raise OperatorError(f"{key} holds no private key of `postrider selectors keygen`: {error}.") from None
    signed = path.with_name(f"{path.name}.sig")
    signed.write_text(f"{signature}\n", "ascii")
    print(f"Selectors {version} are signed: serve {path.name} and {signed.name} in the same place, over https.")  # noqa: T201
    return 0


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise OperatorError(f"{path} cannot be read: {error.strerror}.") from None
