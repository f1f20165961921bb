# The commands that people and CI run. `make` lists them.

# Which Python to use. If empty: python3, or the newest Python on the PATH that fits.
PYTHON ?=
export PYTHON
BIN := .venv/bin
# Runs of the fault bench; each takes about 40 s.
RUNS := 100
# Parallel test processes: more than cores, since most tests wait for a browser. Fewer are slower and load the machine less.
WORKERS := 5
# Bytecode is written, since hundreds of processes load the same files.
PYTEST := PYTHONDONTWRITEBYTECODE= $(BIN)/pytest -n $(WORKERS) --dist worksteal

.DEFAULT_GOAL := help
.PHONY: help install install-dev demo up test test-long test-all newcomer bench faults check format reference lock clean

help: ## List the commands
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 14

# Installs everything; does nothing if the requirements have not changed.
install:
	@$(or $(PYTHON),python3) -m commands.install

install-dev:
	@$(or $(PYTHON),python3) -m commands.install --dev

demo: install ## Link a sandbox account, send one message and verify its webhook, step by step
	@$(BIN)/postrider demo

up: install ## Run the service on this machine until Ctrl-C
	@$(BIN)/postrider up

test: install-dev ## Run the tests, except the long ones; five to six minutes
	@$(PYTEST) -m "not long" $(COVERAGE)

test-long: install-dev ## Run the tests that `make test` leaves out
	@$(PYTEST) -m long

# The long tests run without coverage, with which they would take half as long again.
test-all: ## Run all tests, with branch coverage of `make test`
	@$(MAKE) --no-print-directory test COVERAGE="--cov --cov-report=term"
	@$(MAKE) --no-print-directory test-long

newcomer: ## Clone the last commit and run its demo, without any cache, as a new user does
	@.ci/newcomer

bench: install ## Measure speed and memory, compared with other ways to do the same; most of an hour on an idle machine
	@$(BIN)/postrider bench accept
	@$(BIN)/postrider bench send
	@$(BIN)/postrider bench lane
	@$(BIN)/postrider bench start
	@$(BIN)/postrider bench pulse
	@$(BIN)/postrider bench growth
	@$(BIN)/postrider bench reports
	@$(BIN)/postrider bench exports
	@$(BIN)/postrider bench writes
	@$(BIN)/postrider bench deliveries
	@$(BIN)/postrider bench fairness
	@$(BIN)/postrider bench sessions
	@$(BIN)/postrider bench memory
	@$(BIN)/postrider bench idle

faults: install-dev ## Break a running cluster at random, RUNS times, and compare all records at the end
	@PYTHONPATH=.:tests $(BIN)/python -m faults --runs $(RUNS)

check: install-dev ## Check format, lint, types and import rules
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(BIN)/pytest -q tests/test_rooms.py

format: install-dev ## Format the code, and fix lint errors where possible
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

reference: install-dev ## Make the generated parts of the docs: settings, states, calls, examples
	@$(BIN)/python -m commands.reference

lock: ## Make requirements.lock and requirements-dev.lock from pyproject.toml
	@$(or $(PYTHON),python3) -m commands.lock

clean: ## Remove the virtual environment and the caches, but not .data
	@rm -rf .venv .pytest_cache .mypy_cache .ruff_cache .coverage
