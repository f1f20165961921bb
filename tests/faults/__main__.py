"""Run the fault bench: python -m faults --runs 100 --seed 1."""

import asyncio
import logging
import random
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import typer

from browser.sandbox.control import DOMS
from faults.cluster import open_cluster
from faults.kinds import KINDS
from faults.run import Outcome, Plan, run

app = typer.Typer(add_completion=False)

FRESH = 25  # runs of one cluster: its chats grow with each, and the pages take longer and longer
WRONG = 3  # exit code; 1 is that of a bench that broke


@app.command()
def main(  # noqa: PLR0917  # options, not arguments
    runs: Annotated[int, typer.Option(min=1, help="How many runs.")] = 10,
    seed: Annotated[
        int | None, typer.Option(help="Of the first run; the next ones count up. Random if left out.")
    ] = None,
    only: Annotated[list[str] | None, typer.Option(help="Only faults whose name has this; may be repeated.")] = None,
    jobs: Annotated[int, typer.Option(min=1, help="Messages of a run.")] = 15,
    over: Annotated[float, typer.Option(min=1, help="Seconds in which they fall due and the faults strike.")] = 10,
    accounts: Annotated[int, typer.Option(min=1, help="Accounts that send them.")] = 3,
    crowd: Annotated[
        int, typer.Option(min=0, help="Clients that order message after message meanwhile, for an account not linked.")
    ] = 64,
    dom: Annotated[str, typer.Option(help=f"Which generation of the page: {', '.join(DOMS)}.")] = DOMS[-1],
    harsh: Annotated[bool, typer.Option(help="Do what real pages do now and then.")] = False,
    until_wrong: Annotated[bool, typer.Option(help="End after the first run with something wrong.")] = False,
    folder: Annotated[Path | None, typer.Option(help="Keeps logs and data here; otherwise they are deleted.")] = None,
) -> None:
    """Send a known load through real processes, harm them at random, and compare what everybody has in the end."""
    kinds = [kind for kind in KINDS if not only or any(word in kind for word in only)]
    if not kinds:
        raise typer.BadParameter(f"no fault has {' or '.join(only or [])} in its name; there are: {', '.join(KINDS)}")
    if dom not in DOMS:
        raise typer.BadParameter(f"--dom {dom} is none of {', '.join(DOMS)}")
    # It is the bench that stops Postgres; its pool need not say that it is away.
    logging.getLogger("psycopg.pool").setLevel(logging.ERROR)
    first = random.randrange(10**6) if seed is None else seed  # noqa: S311  # no secret
    with _kept(folder) as path:
        bench = Bench(path, accounts, dom, harsh=harsh, until_wrong=until_wrong)
        outcomes = asyncio.run(bench.all(range(first, first + runs), Plan(kinds, jobs, over, crowd)))
    sys.exit(report(outcomes))


@contextmanager
def _kept(folder: Path | None) -> Iterator[Path]:
    if folder:
        folder.mkdir(parents=True)
        folder.chmod(0o755)
        yield folder.resolve()
        return
    with TemporaryDirectory(prefix="postrider-faults-", ignore_cleanup_errors=True) as name:
        # Postgres runs as a user of its own under root, and has to walk here.
        Path(name).chmod(0o755)
        yield Path(name)


@dataclass(frozen=True)
class Bench:
    """Where runs are made, and of what."""

    folder: Path
    accounts: int
    #: how their pages are drawn
    dom: str
    harsh: bool
    until_wrong: bool

    async def all(self, seeds: range, plan: Plan) -> list[Outcome]:
        """Make a run of each seed."""
        outcomes: list[Outcome] = []
        page = f"{self.dom}{', harsh' if self.harsh else ''}"
        tell(f"{len(seeds)} runs from seed {seeds[0]}: {plan.jobs} messages of {self.accounts} accounts ({page})")
        tell(f"{len(plan.kinds)} kinds of faults")
        for first in seeds[::FRESH]:
            folder = self.folder / str(first)
            folder.mkdir(mode=0o755)
            async with open_cluster(folder, self.accounts, dom=self.dom, harsh=self.harsh) as cluster:
                for seed in range(first, min(first + FRESH, seeds.stop)):
                    outcomes.append(await run(cluster, seed, plan))
                    tell(f"{time.strftime('%H:%M:%S')} {outcomes[-1]}")
                    for line in outcomes[-1].wrong:
                        tell(f"    {line}")
                    if outcomes[-1].wrong and self.until_wrong:
                        return outcomes
        return outcomes


def report(outcomes: list[Outcome]) -> int:
    """Print the sums; return the exit code: 0, or WRONG."""
    ends: Counter[str] = sum((outcome.ends for outcome in outcomes), Counter())
    faults = Counter(name for outcome in outcomes for name, what in outcome.faults if what != "missed")
    wrong = Counter(line.partition(":")[0] for outcome in outcomes for line in outcome.wrong)
    recovery = sorted(outcome.recovery for outcome in outcomes)
    crowd = sum(outcome.crowd for outcome in outcomes)
    tell(f"\n{len(outcomes)} runs, {sum(faults.values())} faults, {sum(ends.values())} jobs, {crowd:,} of the crowd")
    tell("faults: " + ", ".join(f"{count} {name}" for name, count in faults.most_common()))
    tell("jobs: " + ", ".join(f"{count} {end}" for end, count in ends.most_common()))
    tell(f"of those whose outcome is unknown, {sum(outcome.unknown_arrived for outcome in outcomes)} had arrived")
    tell(f"quiet after the last fault: median {recovery[len(recovery) // 2]:.0f} s, at most {recovery[-1]:.0f} s")
    tell("wrong: " + (", ".join(f"{count} {kind}" for kind, count in wrong.items()) or "nothing"))
    return WRONG if wrong else 0


def tell(line: str) -> None:
    """Print a line at once."""
    print(line, flush=True)  # noqa: T201  # a bench prints


if __name__ == "__main__":
    app()
