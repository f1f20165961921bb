"""Programs whose pages are the sandbox's, at its pace: api, and worker."""

import sys
from functools import partial

import logs
from browser.sandbox.pace import PATIENCE, TIMING
from commands import environment, serve

if __name__ == "__main__":
    settings = environment.load()
    logs.configure(settings.log_level)
    run = {"api": partial(serve.run_api, timing=TIMING), "worker": partial(serve.run_worker, patience=PATIENCE)}
    sys.exit(run[sys.argv[1]](settings))
