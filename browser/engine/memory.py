"""The memory of browsers: the proportional set size (PSS) of each one's processes, summed.

RSS counts memory that ten processes share ten times: 973 MB for a session whose PSS is 405 MB.
"""

import asyncio
from collections import defaultdict
from collections.abc import Collection, Iterator
from pathlib import Path

import psutil

from browser.engine.process import browsers


async def measure(directories: Collection[Path]) -> dict[Path, int]:
    """Measure the browsers that hold these profiles: directory → bytes. Profiles without a browser are left out.

    Where the system has no PSS (macOS), shared memory is not counted at all.
    """
    return await asyncio.to_thread(_measure, {directory.resolve(): directory for directory in directories})


def _measure(directories: dict[Path, Path]) -> dict[Path, int]:
    roots: dict[Path, set[psutil.Process]] = defaultdict(set)
    for held, process in browsers():
        if held in directories:
            roots[directories[held]].add(process)
    children = _children() if roots else {}
    # A start script is the parent of its browser: both hold the profile, and a set counts each process once.
    return {
        directory: sum(_weigh(process) for process in {each for root in held for each in _tree(root, children)})
        for directory, held in roots.items()
    }


def _children() -> dict[int, list[psutil.Process]]:
    found: dict[int, list[psutil.Process]] = defaultdict(list)
    for process in psutil.process_iter(["ppid"]):
        found[process.info["ppid"]].append(process)
    return found


def _tree(root: psutil.Process, children: dict[int, list[psutil.Process]]) -> Iterator[psutil.Process]:
    yield root
    for child in children.get(root.pid, []):
        yield from _tree(child, children)


def _weigh(process: psutil.Process) -> int:
    try:
        info = process.memory_full_info()
        return int(getattr(info, "pss", info.uss))
    except psutil.AccessDenied:
        return _private(process)
    except psutil.Error:  # it has ended meanwhile
        return 0


def _private(process: psutil.Process) -> int:
    """Estimate a process's private memory, where a hardened kernel (ptrace_scope) hides its memory map."""
    try:
        info = process.memory_info()
        return max(0, info.rss - getattr(info, "shared", 0))
    except psutil.Error:
        return 0
