"""The wheel has all that a process needs: it starts from a virtual environment that has nothing of the tree."""

import asyncio
import os
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import httpx2
import pytest
from fixtures_house import ROOT, Program

from bench.ports import held_ports

pytestmark = [pytest.mark.timeout(300), pytest.mark.long]


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the command `postrider` of a virtual environment in which the wheel is installed."""
    folder = tmp_path_factory.mktemp("wheel")
    pip = (sys.executable, "-m", "pip", "--disable-pip-version-check")
    subprocess.run(
        [*pip, "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--wheel-dir", folder, ROOT], check=True
    )
    (wheel,) = folder.glob("*.whl")
    venv.create(folder / "venv")
    python = folder / "venv" / "bin" / "python"
    subprocess.run([*pip, "--python", python, "install", "--quiet", "--no-deps", "--no-index", wheel], check=True)
    (site,) = (folder / "venv" / "lib").glob("python*/site-packages")
    # What it depends on, without the tree: paths in a .pth file are not searched for further ones.
    (site / "dependencies.pth").write_text(sysconfig.get_path("purelib"))
    return folder / "venv" / "bin" / "postrider"


def test_its_code_is_the_wheels(installed: Path, tmp_path: Path) -> None:
    python = str(installed.with_name("python"))
    shown = subprocess.run(
        [python, "-c", "import api; print(api.__file__)"], capture_output=True, text=True, check=True, cwd=tmp_path
    )
    assert Path(shown.stdout).is_relative_to(installed.parent.parent)


async def ready(port: int) -> str:
    async with httpx2.AsyncClient() as client, asyncio.timeout(90):
        while True:
            try:
                answer = await client.get(f"http://127.0.0.1:{port}/readyz", timeout=60)
            except httpx2.TransportError:
                await asyncio.sleep(0.05)
            else:
                return str(answer.json()["status"])


async def test_it_starts_an_api_and_a_worker(installed: Path, database_url: str, tmp_path: Path) -> None:
    ports = held_ports(2)
    own = {
        "DATABASE_URL": database_url, "DATA_DIR": str(tmp_path), "PORT": str(ports[0]), "WORKER_PORT": str(ports[1]),
        "LOG_LEVEL": "warning", "MAX_SESSIONS": "1",
    }  # fmt: skip
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"} | own
    for command, port in (("api", ports[0]), ("worker", ports[1])):
        process = await asyncio.create_subprocess_exec(installed, command, cwd=tmp_path, env=environment)
        program = Program(process)
        try:
            assert await ready(port) == "ready"
        finally:
            assert await program.stop() == 0
