# Two commands matter: `make demo` and `make test`. Both make what they need from a fresh clone.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

PYTHON ?= python3
VENV := .venv
UV := .uv/bin/uv
BIN := $(VENV)/bin
ENV := $(VENV)/.installed
CODE := driftline local lab streaming features model tests benchmarks
# Images of containers forbid Python to keep what it compiled. Every process would compile all that it imports again: twice
# the processor for each start (docs/decisions/0141). Here it is kept, in folders that git ignores.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help env demo stop picture test test-fast chaos check format bench docs dashboards lock clean

# Four test processes, each with a broker of its own: a test file stays in one of them, so its fixtures are made once, and
# so does what shares the stack of tests/chaos. Four keep two cores busy, because tests of whole runs wait much of their
# time. Whole runs go first (tests/conftest.py; docs/decisions/0141).
WORKERS ?= 4
# COVERAGE=1 also measures which lines ran; it is slower, so only the CI workflow asks for it.
PYTEST := $(BIN)/python -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder \
  $(if $(COVERAGE),$(foreach p,driftline local lab streaming features model,--cov $(p)) --cov-report term --cov-report xml)

help: ## What there is
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

$(UV):
	@echo "[driftline] fetching uv into .uv"
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "driftline needs Python 3.11 or newer; this is " + sys.version.split()[0] + " (choose another with PYTHON=python3.12)")'
	@$(PYTHON) -m venv .uv
	@.uv/bin/python -m pip install --quiet --disable-pip-version-check "uv>=0.9"

$(ENV): requirements.lock pyproject.toml | $(UV)
	@echo "[driftline] making the locked environment in $(VENV)"
	@$(UV) venv --quiet --allow-existing --python $(PYTHON) $(VENV)
	@$(UV) pip sync --python $(BIN)/python --require-hashes requirements.lock
	@$(UV) pip install --quiet --python $(BIN)/python --no-deps --editable .
	@touch $@

env: $(ENV) ## Make the locked environment

demo: $(ENV) ## Run the whole loop on real data (KEEP=1 leaves it running)
	@exec $(BIN)/driftline demo $(if $(KEEP),--keep,)

stop: $(ENV) ## End what `make demo KEEP=1` left running
	@exec $(BIN)/driftline demo --stop

picture: $(ENV) ## Draw the README's pictures of drift anew, from a real run (needs chromium for the page's)
	@$(BIN)/driftline demo --script by-domain --keep
	@cp runs/demo/log_loss.png docs/images/drift.png
	@$(BIN)/python -m tests.pages.picture "$$($(BIN)/python -c 'import json; print(json.load(open("runs/demo/state.json"))["addresses"]["scorer"])')" \
	  docs/images/page.png || true
	@$(BIN)/driftline demo --stop

test: $(ENV) ## All tests, on the real broker and stores
	@exec $(PYTEST)

test-fast: $(ENV) ## The tests without broker, Redis, browser and whole runs: under a minute
	@exec $(PYTEST) -m "not broker and not redis and not browser and not e2e and not slow"

# One process: the proofs break the same stack one after another, and would take the processor from each other.
chaos: $(ENV) ## Break everything at length and print what came of it (SOAK_MINUTES=60, TESTS=tests/chaos/test_kills.py)
	@CHAOS=long SOAK_MINUTES=$(or $(SOAK_MINUTES),10) exec $(BIN)/python -m pytest $(or $(TESTS),tests/chaos)

check: $(ENV) ## Format, lint, types
	@$(BIN)/ruff format --check $(CODE)
	@$(BIN)/ruff check $(CODE)
	@$(BIN)/mypy

format: $(ENV) ## Put the code in order
	@$(BIN)/ruff format $(CODE)
	@$(BIN)/ruff check --fix $(CODE)

bench: $(ENV) ## Print every figure the README quotes
	@exec $(BIN)/python -m benchmarks

docs: $(ENV) ## Build the documentation site in site/
	@NO_MKDOCS_2_WARNING=1 exec $(BIN)/mkdocs build --quiet --strict

dashboards: $(ENV) ## Write Grafana's dashboards anew from their code
	@exec $(BIN)/python -m streaming.monitoring.dashboards

lock: | $(UV) ## Resolve requirements.lock anew, without any address in it
	@$(UV) pip compile --quiet --universal --generate-hashes --no-header --no-emit-index-url \
	  --extra dev --python-version 3.11 --output-file requirements.lock pyproject.toml

clean: ## Remove what the runs and tests wrote
	@rm -rf runs site .pytest_cache .mypy_cache .ruff_cache .hypothesis
