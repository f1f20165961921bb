"""Renew requirements.lock and requirements-dev.lock from pyproject.toml: `make lock`.

The second is a superset of the first. Each begins with two facts that `commands/install.py` needs before anything is
installed: the Pythons that its wheels support, and the size of the download.
"""

import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterable
from pathlib import Path

ROOT = Path(__file__).parent.parent
UV = "uv==0.13.9"  # in a separate environment, so that it does not lock itself
#: The supported platforms. cryptography no longer has wheels for Macs with an Intel processor.
PLATFORMS = ("x86_64-manylinux_2_28", "aarch64-manylinux_2_28", "aarch64-apple-darwin")
OLDEST, NEWEST = 11, 20  # the versions 3.x to check; the newest is far ahead of the current one
BASE = (
    "pip",
    "compile",
    "--quiet",
    "--upgrade",
    "--universal",
    "--generate-hashes",
    "--no-emit-index-url",
    "--no-header",
)


def main() -> int:
    """Write both locks."""
    with tempfile.TemporaryDirectory(prefix="postrider-lock-") as name:
        folder = Path(name)
        uv = _uv(folder / "tools")
        for lock, group, constraints in (
            ("requirements.lock", "build", ()),
            ("requirements-dev.lock", "dev", ("-c", "requirements.lock")),
        ):
            fresh = folder / lock
            _run(
                uv, *BASE, "--python-version", f"3.{OLDEST}", "--group", group, *constraints, "pyproject.toml",
                "-o", fresh,
            )  # fmt: skip
            sizes = _sizes(uv, fresh, folder / "pylock.toml")
            if not sizes:
                print(f"No Python has wheels of every package in {lock}; the file was not changed.", file=sys.stderr)  # noqa: T201
                return 1
            (ROOT / lock).write_text(_header(sizes) + fresh.read_text())
            print(f"{lock}: {_sentence(sizes)}")  # noqa: T201
    return 0


def _uv(environment: Path) -> Path:
    _run(Path(sys.executable), "-m", "venv", environment)
    _run(environment / "bin" / "python", "-m", "pip", "install", "--quiet", "--disable-pip-version-check", UV)
    return environment / "bin" / "uv"


def _run(program: Path, *arguments: str | Path) -> None:
    subprocess.run([program, *arguments], check=True, cwd=ROOT)  # noqa: S603  # constants


def _sizes(uv: Path, lock: Path, scratch: Path) -> dict[int, int]:
    """Return the minor versions of Python with wheels of every package on all platforms, and their size in bytes."""
    sizes: dict[int, int] = {}
    for minor in range(OLDEST, NEWEST):
        needed = [_wheels(uv, lock, scratch, f"3.{minor}", platform) for platform in PLATFORMS]
        if not all(needed):
            break
        sizes[minor] = max(needed)
    return sizes


def _wheels(uv: Path, lock: Path, scratch: Path, python: str, platform: str) -> int:
    """Return the size of a lock's wheels in bytes; 0 if a package has none."""
    scratch.unlink(missing_ok=True)
    done = subprocess.run(  # noqa: S603  # constants
        [
            uv, "pip", "compile", "--quiet", "--no-deps", "--only-binary", ":all:", "--python-version", python,
            "--python-platform", platform, lock, "-o", scratch,
        ],
        check=False, capture_output=True, cwd=ROOT,
    )  # fmt: skip
    if done.returncode != 0:
        return 0
    packages = tomllib.loads(scratch.read_text())["packages"]
    return sum(max(wheel["size"] for wheel in package["wheels"]) for package in packages)


def _header(sizes: dict[int, int]) -> str:
    return f"# Made by `make lock`; install with --no-deps, since this is all that is needed.\n# {_sentence(sizes)}\n"


def _sentence(sizes: dict[int, int]) -> str:
    return f"Pythons: {_listed(sizes)}. Download: {max(sizes.values()) // 10**6} MB."


def _listed(minors: Iterable[int]) -> str:
    return " ".join(f"3.{minor}" for minor in minors)


if __name__ == "__main__":
    sys.exit(main())
