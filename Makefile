# The main targets: `make demo`, `make dev`, `make test`, `make bench`, `make check`.
# Each sets up what it needs from Python 3.11+ and either a `temporal` binary or Go.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
PYTHON ?= python3
UV_VERSION := 0.13.9
BIN := .venv/bin
TENANTS ?= 0
WORKERS ?= 4
# For `make test-lowest`: where PostgreSQL 15 is, and the tests of what can differ there.
TEST_POSTGRES_BIN ?= /usr/lib/postgresql/15/bin
LOWEST := tests/isolation/test_catalogue.py tests/isolation/test_columns.py \
    tests/isolation/test_leak_hunt.py tests/isolation/test_row_security.py \
    tests/library/control_plane tests/library/postgres/test_database.py \
    tests/library/postgres/test_database_migrations.py \
    tests/library/postgres/test_session_limits.py \
    tests/library/postgres/test_statement_guard.py \
    tests/library/dead_letters/test_dead_letter_alerts.py \
    tests/library/django tests/library/outbox/test_requests.py \
    tests/library/outbox/test_relay_stop.py tests/library/outbox/test_awaited_requests.py \
    tests/library/sdk/test_starts.py tests/library/tracing \
    tests/library/metrics/test_scrape.py tests/library/metrics/test_bounded_series.py

# Compiles each program once, since many are started often.
export UV_COMPILE_BYTECODE := 1
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help setup demo dev test test-lowest test-server soak fleet coverage conformance mutants deploys bench screenshots dashboards sbom rooms check format

help:  ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 13

setup: .venv/.locked  ## create .venv from uv.lock

# uv is installed into the environment first, so it need not be on the machine.
.venv/.locked: uv.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	    || { echo "Python 3.11 or newer is needed; $(PYTHON) is older. Say which: make PYTHON=python3.12" >&2; exit 3; }
	@echo "Installing what uv.lock names into .venv: a minute or more, once." >&2
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || $(BIN)/python -m ensurepip >/dev/null
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check uv==$(UV_VERSION)
	@VIRTUAL_ENV= UV_PROJECT_ENVIRONMENT=.venv $(BIN)/uv sync --frozen --quiet --inexact
	@touch $@

demo: setup  ## run the main jobs on real data, start to end (TENANTS=500 adds made-up tenants)
	@$(BIN)/python -m dev.demo --tenants $(TENANTS)

dev: setup  ## run everything until Ctrl-C
	@$(BIN)/python -m dev

test: setup  ## run the suite in WORKERS=4 processes, each with its own servers (ARGS="-k relay")
	@$(BIN)/python -m pytest -n $(WORKERS) --dist loadscope --no-loadscope-reorder $(ARGS)

# The oldest releases that pyproject.toml allows, and PostgreSQL 15. What differs between isolation
# modes does not differ between releases.
test-lowest: .venv-lowest/.locked  ## run part of the suite on the oldest PostgreSQL and packages
	@test -x $(TEST_POSTGRES_BIN)/postgres || { echo "PostgreSQL 15 is missing: apt-get install" \
	    "postgresql-15, or say where it is: make test-lowest TEST_POSTGRES_BIN=/path/to/bin" >&2; exit 3; }
	@CONFORMANCE=shared TEST_POSTGRES_BIN=$(TEST_POSTGRES_BIN) .venv-lowest/bin/python -m pytest -n $(WORKERS) \
	    --dist loadscope --no-loadscope-reorder $(LOWEST) $(ARGS)

.venv-lowest/.locked: .venv/.locked dev/lowest.py
	@VIRTUAL_ENV= $(BIN)/uv venv --quiet --clear --python $(BIN)/python .venv-lowest
	@$(BIN)/uv export --frozen --quiet --no-hashes --no-header --no-annotate --no-emit-project \
	    | $(BIN)/python -m dev.lowest > .venv-lowest/requirements.txt
	@VIRTUAL_ENV= $(BIN)/uv pip install --quiet --python .venv-lowest/bin/python \
	    -r .venv-lowest/requirements.txt
	@touch $@

# Coverage slows the tests down, so their limits are longer.
coverage: setup  ## print the lines that the suite does not run, child processes too (ARGS="-k relay")
	@$(BIN)/coverage erase
	@failed=0; $(BIN)/coverage run -m pytest -n $(WORKERS) --dist loadscope --no-loadscope-reorder \
	    --timeout=600 --hypothesis-profile=ci $(ARGS) || failed=$$?; \
	    $(BIN)/coverage combine --quiet; $(BIN)/coverage report; exit $$failed

conformance: setup  ## run all conformance tests in all modes: stores of each kind, and PgBouncer
	@CONFORMANCE=full $(BIN)/python -m pytest -n $(WORKERS) --dist loadscope \
	    --no-loadscope-reorder $$($(BIN)/python -m tests.conformance) $(ARGS)

mutants: setup  ## seed faults one at a time, and print which test finds each
	@$(BIN)/python -m tests.mutants

deploys: setup  ## release a bad build to 1 % of 1,000 tenants; deploy 20 times under load
	@$(BIN)/python -m pytest -q -s --show-capture=no \
	    tests/library/deployments/campaign.py tests/system/faults/rolling_deploys.py

# With TEMPORAL_KIND=server any target runs on that server.
test-server: setup  ## run the main jobs on a real Temporal server, and kill it meanwhile
	@$(BIN)/python -m pytest -q -s --show-capture=no tests/system/faults/real_server.py $(ARGS)

soak: setup  ## mixed load with faults on a real Temporal server (SOAK_MINUTES=20)
	@$(BIN)/python -m pytest -q -s --show-capture=no tests/system/faults/soak.py $(ARGS)

fleet: setup  ## run every job for 66 tenants in stores of all kinds, then seeded faults
	@$(BIN)/python -m pytest -q -s --show-capture=no tests/system/faults/fleet.py \
	    tests/system/faults/fleet_seeds.py $(ARGS)

bench: setup  ## run the benchmarks, one line of JSON each (FULL=1 adds the long ones)
	@$(BIN)/python -m benchmarks

screenshots: setup  ## take the pictures in docs/images, with Chromium
	@VIRTUAL_ENV= UV_PROJECT_ENVIRONMENT=.venv $(BIN)/uv sync --frozen --quiet --inexact --group docs
	@$(BIN)/python -m docs.screenshots

dashboards: setup  ## plot the dashboards' panels into docs/images, from a run of two minutes
	@$(BIN)/python -m docs.dashboard_pictures

# From uv.lock, which the image is built from, without the dev stack and the tests.
sbom: setup  ## write sbom.json: the packages of the image, with their hashes (CycloneDX)
	@VIRTUAL_ENV= UV_PROJECT_ENVIRONMENT=.venv $(BIN)/uv sync --frozen --quiet --inexact --group deploy
	@$(BIN)/uv export --frozen --quiet --no-default-groups --group app --no-header \
	    --no-annotate --no-emit-project | $(BIN)/cyclonedx-py requirements --of JSON \
	    --pyproject pyproject.toml --output-reproducible -o sbom.json - 2>/dev/null
	@echo "sbom.json has $$(grep -c '"purl"' sbom.json) packages."

rooms: setup  ## print the folders with their sizes and imports
	@$(BIN)/python -m dev.rooms

check: setup  ## check format, lint, types and the import contract
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check --no-cache .
	@$(BIN)/mypy .
	@$(BIN)/lint-imports --no-cache

format: setup  ## fix format and lint where it can be automatic
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .
