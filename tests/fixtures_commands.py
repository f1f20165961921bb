"""The commands as people run them: programs, with what they print and how they end."""

import asyncio
import os
import sys
from asyncio.subprocess import PIPE, STDOUT, Process
from pathlib import Path

ROOT = Path(__file__).parent.parent


async def start(*arguments: str, **environment: str) -> Process:
    """Start a command."""
    clean = {name: value for name, value in os.environ.items() if name not in {"DATABASE_URL", "ENV"}}
    return await asyncio.create_subprocess_exec(
        sys.executable, "-m", "cli", *arguments, cwd=ROOT, env={**clean, **environment}, stdout=PIPE, stderr=STDOUT
    )


async def run(*arguments: str, **environment: str) -> tuple[int, str]:
    """Run a command to its end; return its code and what it printed."""
    process = await start(*arguments, **environment)
    output, _ = await process.communicate()
    return process.returncode or 0, output.decode()
