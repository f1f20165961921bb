"""The table of a benchmark: printed as Markdown while it grows, and written as JSON."""

import json
import os
import platform
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from statistics import median

import psutil

from wiring.shared import VERSION


@dataclass(frozen=True)
class Spread:
    """The values of several rounds: shown as their median, with the least and the greatest."""

    values: Sequence[float]
    digits: int = 0

    @property
    def median(self) -> float:
        """The middle value."""
        return median(self.values)

    def __str__(self) -> str:
        """Show it in a cell."""
        least, most = min(self.values), max(self.values)
        return f"{self.median:,.{self.digits}f} ({least:,.{self.digits}f}-{most:,.{self.digits}f})"


Cell = str | float | Spread


@dataclass
class Table:
    """One table. Its rows are printed at once, so that a long benchmark shows what it has."""

    name: str
    columns: tuple[str, ...]
    rows: list[dict[str, object]] = field(default_factory=list)

    def begin(self) -> None:
        """Print the head."""
        print("| " + " | ".join(self.columns) + " |\n|" + "---|" * len(self.columns), flush=True)

    def add(self, *cells: Cell) -> None:
        """Print a row and keep it."""
        self.rows.append({name: _plain(cell) for name, cell in zip(self.columns, cells, strict=True)})
        print("| " + " | ".join(map(_shown, cells)) + " |", flush=True)

    def write(self, folder: Path) -> None:
        """Write it to `folder`, with the machine and the time, and say where."""
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{self.name}.json"
        content = {"benchmark": self.name, "at": datetime.now(UTC).isoformat(), **_machine(), "rows": self.rows}
        path.write_text(json.dumps(content, indent=2) + "\n", "utf-8")
        print(f"Written to {path}.", flush=True)


def _machine() -> dict[str, object]:
    return {
        "version": VERSION,
        "python": platform.python_version(),
        "system": platform.platform(),
        "cores": os.cpu_count(),
        "memory_mb": psutil.virtual_memory().total // 2**20,
    }


def _shown(cell: Cell) -> str:
    return f"{cell:.2f}" if isinstance(cell, float) else str(cell)


def _plain(cell: Cell) -> object:
    if isinstance(cell, Spread):
        return {"median": cell.median, "rounds": list(cell.values)}
    return cell
