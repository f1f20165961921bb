# The commands that people and CI run. `make` alone lists them.

# Empty: python3, or the newest Python on the PATH that fits.
PYTHON ?=
export PYTHON
BIN := .venv/bin
# Of the fault bench; one takes about 40 s.
RUNS := 100
# More than there are cores: most tests wait for a browser. Fewer make it slower and quieter.
WORKERS := 5
# With its bytecode kept: hundreds of processes load the same files.
PYTEST := PYTHONDONTWRITEBYTECODE= $(BIN)/pytest -n $(WORKERS) --dist worksteal

.DEFAULT_GOAL := help
.PHONY: help install install-dev demo up test test-long test-all newcomer bench faults check format reference lock clean

help: ## List the commands
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 14

# Everything that a fresh machine needs, once, and again when the requirements change.
install:
	@$(or $(PYTHON),python3) -m commands.install

install-dev:
	@$(or $(PYTHON),python3) -m commands.install --dev

demo: install ## Do the main job once, for real, and tell it step by step
	@$(BIN)/postrider demo

up: install ## Run the service on this machine until Ctrl-C
	@$(BIN)/postrider up

test: install-dev ## Run the tests, save for the long ones; five to six minutes
	@$(PYTEST) -m "not long" $(COVERAGE)

test-long: install-dev ## Run the tests that `make test` leaves out
	@$(PYTEST) -m long

# The long ones without coverage, with which they take half as long again.
test-all: ## Run all tests, with the branch coverage of those that are not long
	@$(MAKE) --no-print-directory test COVERAGE="--cov --cov-report=term"
	@$(MAKE) --no-print-directory test-long

newcomer: ## Do as somebody new does: clone the last commit, and run its demo without any cache
	@.ci/newcomer

bench: install ## Measure: many accounts on few seats, what sessions weigh, how fast and how fairly webhooks leave
	@$(BIN)/postrider bench sessions
	@$(BIN)/postrider bench memory
	@$(BIN)/postrider bench deliveries
	@$(BIN)/postrider bench fairness

faults: install-dev ## Harm a running cluster at random, RUNS times, and compare what everybody has
	@PYTHONPATH=.:tests $(BIN)/python -m faults --runs $(RUNS)

check: install-dev ## Format, lint, types, import rules
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(BIN)/pytest -q tests/test_rooms.py

format: install-dev ## Bring the code into shape
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

reference: install-dev ## Renew what the docs take from elsewhere: settings, states, examples
	@$(BIN)/python -m commands.reference

lock: ## Renew requirements.lock and requirements-dev.lock from pyproject.toml
	@$(or $(PYTHON),python3) -m commands.lock

clean: ## Remove the virtual environment and the caches; .data stays
	@rm -rf .venv .pytest_cache .mypy_cache .ruff_cache .coverage
