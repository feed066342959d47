# Needs Python 3.11 or later, make and a package index; everything else goes into .venv, made on demand.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
ARGS ?=
# Tests mostly wait for one another's timers: more at once than there are cores.
WORKERS ?= 4
# Empty: without coverage, which takes a quarter of the time.
COV ?= --cov --cov-report=term
VENV := .venv
BIN := $(VENV)/bin
# A stamp: older than the pins or the metadata, it has make install again.
INSTALLED := $(VENV)/.installed
COMPOSE := docker compose
UV_VERSION := 0.13.8

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help install demo run test check bench simulate matrix chaos outages replays hostile fuzz mutation up down constraints clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
	@echo "  ARGS=... is passed on, for example: make demo ARGS=--once"

install: $(INSTALLED) ## .venv with everything pinned in constraints.txt, hashes checked

# Two steps, because pip can't check a hash of a folder: first what is pinned, then ourselves with nothing
# left to resolve or to download (the build backend is among the pinned). The pins are complete: with
# --no-deps pip looks for nothing beside them (23 and older take a newer coverage[toml] for another package).
$(INSTALLED): constraints.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or later is needed: make PYTHON=...")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes --no-deps -r constraints.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

demo: $(INSTALLED) ## the whole chain on embedded parts; ARGS=--once ends after it
	$(BIN)/quartermaster demo $(ARGS)

run: $(INSTALLED) ## the consumer, with the settings of the environment or .env
	$(BIN)/quartermaster run $(ARGS)

test: check ## check, then the tests on embedded parts with branch coverage; without the long proofs
	QM_TEST_CONTAINERS=0 $(BIN)/python -m pytest -m 'not proof' -n $(WORKERS) --dist worksteal $(COV) $(ARGS)

check: $(INSTALLED) ## linter, formatter, types, folder order, generated documents
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo
	$(BIN)/python -m schemas.documents --check

bench: $(INSTALLED) ## ours beside the bare pipe and other programs, on a real broker (QM_TEST_KAFKA)
	$(BIN)/python -m benchmarks $(ARGS)

# What is tried to break it, by hand and for as long as one likes; docs/reliability.md says what came of it.
# Each prints its seed and takes it again, has a time limit, and tells more with ARGS=--help.
SEEDS ?= 2000

simulate: $(INSTALLED) ## every crash point, and SEEDS=2000 schedules of several instances, in simulated time
	$(BIN)/python -m tests.simulation crash-points $(ARGS)
	$(BIN)/python -m tests.simulation schedules --seeds $(SEEDS)

matrix: $(INSTALLED) ## every call to LiteLLM meets every fault (QM_TEST_LITELLM: on the proxy itself)
	$(BIN)/python -m tests.faults.matrix_run $(ARGS)

chaos: $(INSTALLED) ## processes killed, stopped, hung and rebalanced under load: 200 kills, 50 rebalances
	$(BIN)/python -m tests.chaos $(ARGS)

outages: $(INSTALLED) ## PostgreSQL, Kafka, LiteLLM away for OUTAGE_S=60 seconds each, under load
	QM_TEST_OUTAGE_S=$(or $(OUTAGE_S),60) $(BIN)/python -m pytest tests/faults/test_outages.py tests/faults/test_outages_clock.py $(ARGS)

replays: $(INSTALLED) ## a replay of 200,000 mixed events, killed 20 times: the same books as one left alone?
	$(BIN)/python -m tests.replays $(ARGS)

hostile: $(INSTALLED) ## a million generated and mutated records through decoding and ingest
	$(BIN)/python -m tests.hostile $(ARGS)

fuzz: $(INSTALLED) ## the decoder under a coverage-guided fuzzer
	$(BIN)/python -m tests.hostile.fuzz $(ARGS)

mutation: $(INSTALLED) ## small wrongs in decisions, ledger, dedupe and relay: do the tests notice?
	$(BIN)/python -m tests.mutation $(ARGS)

up: .env ## Kafka, PostgreSQL, LiteLLM and Quartermaster on Docker, on loopback ports
	$(COMPOSE) up --build --detach --wait $(ARGS)

down: .env ## stops them; the data stays (ARGS=--volumes removes it)
	$(COMPOSE) down $(ARGS)

# Throw-away secrets for this machine, made once and never overwritten; the file is not committed.
.env:
	deploy/make-env $@

constraints: ## pins every dependency anew, with hashes (ARGS=--upgrade: to the newest allowed)
	$(PYTHON) -m venv build/lock
	build/lock/bin/python -m pip install --quiet --disable-pip-version-check uv==$(UV_VERSION)
	UV_CUSTOM_COMPILE_COMMAND="make constraints" build/lock/bin/uv --no-config pip compile --quiet \
		--universal --python-version 3.11 --generate-hashes --all-extras --group build \
		$(ARGS) pyproject.toml --output-file constraints.txt

clean: ## removes .venv, caches and build output
	rm -rf $(VENV) build dist *.egg-info .coverage* .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis
