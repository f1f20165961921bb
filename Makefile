# The commands that people and CI run. `make` alone lists them.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# Of the fault bench; one takes about 40 s.
RUNS := 100
# More than there are cores: most tests wait for a browser.
PYTEST := $(BIN)/pytest -n 3 --dist loadfile --no-loadscope-reorder

.DEFAULT_GOAL := help
.PHONY: help demo up test bench faults check format reference lock clean

help: ## List the commands
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 10

# Everything that a fresh machine needs, once, and again when the requirements change.
$(VENV)/ready: requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed; set PYTHON=…")'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "Installing the packages of requirements.lock …"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@$(BIN)/python -m commands.chromium
	@touch $@

demo: $(VENV)/ready ## Do the main job once, for real, and tell it step by step
	@$(BIN)/postrider demo

up: $(VENV)/ready ## Run the service on this machine until Ctrl-C
	@$(BIN)/postrider up

test: $(VENV)/ready ## Run all tests, with branch coverage
	@$(PYTEST) --cov --cov-report=term

bench: $(VENV)/ready ## Measure: many accounts on few seats, what sessions weigh, how fast and how fairly webhooks leave
	@$(BIN)/postrider bench sessions
	@$(BIN)/postrider bench memory
	@$(BIN)/postrider bench deliveries
	@$(BIN)/postrider bench fairness

faults: $(VENV)/ready ## Harm a running cluster at random, RUNS times, and compare what everybody has
	@PYTHONPATH=.:tests $(BIN)/python -m faults --runs $(RUNS)

check: $(VENV)/ready ## Format, lint, types, import rules
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(BIN)/pytest -q tests/test_rooms.py

format: $(VENV)/ready ## Bring the code into shape
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

reference: $(VENV)/ready ## Renew what the docs take from elsewhere: settings, states, examples
	@$(BIN)/python -m commands.reference

lock: $(VENV)/ready ## Renew requirements.lock from pyproject.toml
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check 'uv>=0.13'
	@$(BIN)/uv pip compile --quiet --universal --generate-hashes --no-emit-index-url --group dev \
		--python-version 3.11 pyproject.toml -o requirements.lock

clean: ## Remove the virtual environment and the caches; .data stays
	@rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .coverage
