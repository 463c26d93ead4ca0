# The doors: `make demo`, `make dev`, `make test`, `make bench`, `make check`.
# Each sets up what it needs: Python 3.11+, and Go or a `temporal` binary, are enough.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
PYTHON ?= python3
UV_VERSION := 0.13.9
BIN := .venv/bin
TENANTS ?= 0
WORKERS ?= 4

# Programs that are started many times are compiled once.
export UV_COMPILE_BYTECODE := 1
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help setup demo dev test coverage mutants bench screenshots rooms check format

help:  ## what there is
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 10

setup: .venv/.locked  ## the virtual environment, as uv.lock has it

# uv comes into the environment first, so that nothing has to be installed beforehand.
.venv/.locked: uv.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	    || { echo "Python 3.11 or newer is needed; $(PYTHON) is older. Say which: make PYTHON=python3.12" >&2; exit 3; }
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || $(BIN)/python -m ensurepip >/dev/null
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check uv==$(UV_VERSION)
	@VIRTUAL_ENV= UV_PROJECT_ENVIRONMENT=.venv $(BIN)/uv sync --frozen --quiet --inexact
	@touch $@

demo: setup  ## the main job on real data, start to end (TENANTS=500 adds made-up tenants)
	@$(BIN)/python -m dev.demo --tenants $(TENANTS)

dev: setup  ## everything left running, until Ctrl-C
	@$(BIN)/python -m dev

test: setup  ## the whole suite, in WORKERS=4 processes with servers of their own (ARGS="-k relay")
	@$(BIN)/python -m pytest -n $(WORKERS) --dist loadscope --no-loadscope-reorder $(ARGS)

# Counting lines takes time, which the limits of tests do not allow for.
coverage: setup  ## which lines the suite runs, in the processes that it starts too (ARGS="-k relay")
	@$(BIN)/coverage erase
	@failed=0; $(BIN)/coverage run -m pytest -n $(WORKERS) --dist loadscope --no-loadscope-reorder \
	    --timeout=600 --hypothesis-profile=ci $(ARGS) || failed=$$?; \
	    $(BIN)/coverage combine --quiet; $(BIN)/coverage report; exit $$failed

mutants: setup  ## faults seeded one at a time, and which test finds each
	@$(BIN)/python -m tests.mutants

bench: setup  ## the measurements, one line of JSON each (FULL=1 adds the long ones)
	@$(BIN)/python -m benchmarks

screenshots: setup  ## the pictures in docs/images, with Chromium
	@VIRTUAL_ENV= UV_PROJECT_ENVIRONMENT=.venv $(BIN)/uv sync --frozen --quiet --inexact --group docs
	@$(BIN)/python -m docs.screenshots

rooms: setup  ## the folders, how large each is, and which it imports
	@$(BIN)/python -m dev.rooms

check: setup  ## format, lint, types, import contract
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check --no-cache .
	@$(BIN)/mypy .
	@$(BIN)/lint-imports --no-cache

format: setup  ## what can be mended by itself
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .
