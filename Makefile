# make run    the default experiment (builds .venv if needed)
# make test   the tests
# make env    the environment alone
# make reference    docs/reference/ and the schema anew from the code

PYTHON ?= python3
BIN := .venv/bin
CONFIG ?= config.yaml
SNAKEMAKE := $(BIN)/snakemake --workflow-profile workflow/profiles/workstation --configfile $(CONFIG)

.PHONY: env run test test-faults test-slurm lint format reference schema

env:
	@$(PYTHON) envs/build.py

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
