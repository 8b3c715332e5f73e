# make run    the default experiment (builds .venv if needed)
# make quick  the tiny experiment, every stage once
# make test   the tests
# make env    the environment alone
# make reference    docs/reference/ and the schema anew from the code

PYTHON ?= python3
BIN := .venv/bin
CONFIG ?= config.yaml
SNAKEMAKE := $(BIN)/snakemake --workflow-profile workflow/profiles/workstation --configfile $(CONFIG)

.PHONY: env run quick picture test test-faults test-slurm lint format reference schema

env:
	@$(PYTHON) envs/build.py

run: env
	@$(BIN)/diversity-spectra check --configfile $(CONFIG) >/dev/null
	@$(SNAKEMAKE)
	@$(BIN)/diversity-spectra plan --configfile $(CONFIG) --report

QUICK := tests/configs/tiny.yaml
quick: env
	@$(BIN)/snakemake --workflow-profile workflow/profiles/workstation --configfile $(QUICK)
	@echo "Every stage has run. Open $$($(BIN)/diversity-spectra plan --configfile $(QUICK) --report)"
	@echo "and look at its first table: what each network says on each claim. With so few and short runs it is to say"
	@echo "'inconclusive' nearly everywhere; 'make run' has the runs that can tell."

# The picture of the README, from the last default run.
picture: env
	@$(BIN)/python -c "from PIL import Image; Image.open('results/digits/figures/alignment-mlp.png').convert('RGB').quantize(64).save('docs/alignment.png', optimize=True)"

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
