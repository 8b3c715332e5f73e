# make run    the default experiment (builds .venv if needed)
# make test   the tests
# make env    the environment alone
# make reference    docs/reference/ and the schema anew from the code

PYTHON ?= python3
BIN := .venv/bin
CONFIG ?= config.yaml
SNAKEMAKE := $(BIN)/snakemake --workflow-profile workflow/profiles/workstation --configfile $(CONFIG)
# The environment belongs to these pins; when they change it is built anew.
PINS = $(shell cat envs/requirements.txt pyproject.toml | sha256sum | cut -d' ' -f1)

.PHONY: env run test test-faults test-slurm lint format reference schema

env:
	@test "$$(cat .venv/.pins 2>/dev/null)" = "$(PINS)" || $(MAKE) --no-print-directory build

.PHONY: build
build:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "error: $(PYTHON) is older than Python 3.11; name another one: make env PYTHON=python3.12"; exit 1; }
	@echo "Building .venv from envs/requirements.txt: about 3 GB to download, 6.5 GB on disk, a few minutes ..."
	@rm -rf .venv && $(PYTHON) -m venv .venv
	@$(BIN)/pip install -qq --disable-pip-version-check --no-deps --requirement envs/requirements.txt
	@$(BIN)/pip install -qq --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@echo "$(PINS)" > .venv/.pins

run: env
	@$(BIN)/diversity-spectra check --configfile $(CONFIG) >/dev/null
	@$(SNAKEMAKE)
	@$(BIN)/diversity-spectra plan --configfile $(CONFIG) --report

test: env
	@$(BIN)/pytest

test-faults: env
	@$(BIN)/pytest -m faults

test-slurm: env
	@$(BIN)/pytest -m slurm -n 0 -s

lint: env
	@$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/snakefmt --check Snakefile workflow/rules

format: env
	@$(BIN)/ruff check --fix . ; $(BIN)/ruff format . ; $(BIN)/snakefmt Snakefile workflow/rules

# The pages of docs/ that follow from the code, and the schema for editors.
reference: env schema
	@$(BIN)/python docs/generate.py

schema: env
	@$(BIN)/diversity-spectra check --write-schema workflow/schemas/config.schema.json

bench-%: env
	@$(BIN)/python benchmarks/bench_$*.py
