"""Programs whose pages are the sandbox's, at its pace: api, and worker."""

import sys

import logs
from commands import environment
from commands.api import run_api
from commands.demo_timing import PATIENCE, TIMING
from commands.worker import run_worker
from settings import Settings
from wiring.sandbox import make_sandbox


def run(name: str, settings: Settings) -> int:
    """Run it until a signal."""
    return run_api(settings, make_sandbox(settings, TIMING)) if name == "api" else run_worker(settings, PATIENCE)


if __name__ == "__main__":
    read = environment.load()
    logs.configure(read.log_level)
    sys.exit(run(sys.argv[1], read))
