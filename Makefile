# Targets: `make` lists them. ARGS="…" is passed on.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
PARALLEL ?= -n auto --no-loadscope-reorder
export OMP_WAIT_POLICY ?= PASSIVE
export TOKENIZERS_PARALLELISM ?= false

.DEFAULT_GOAL := help
.PHONY: help install demo demo-pathway test test-slow test-faults lint bench docs clean-demo

help: ## list the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

install: $(STAMP) ## install everything into .venv

$(STAMP): requirements.txt
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "installing the packages of requirements.txt into $(VENV) (a few minutes, once)"
	@$(BIN)/python -m pip install -qq --disable-pip-version-check -r requirements.txt
	@touch $(STAMP)

demo: $(STAMP) ## run every phase on the bundled tiny model, offline; end with a table of what it found, and the report
	@HF_HUB_OFFLINE=1 $(BIN)/python run.py pipeline --profile organism --summary --report $(ARGS)

demo-pathway: $(STAMP) ## which features drive which, and which tokens they put out: on the bundled tiny model, offline
	@HF_HUB_OFFLINE=1 $(BIN)/python run.py pipeline --profile organism --to 3.5
	@HF_HUB_OFFLINE=1 $(BIN)/python run.py pathway --profile organism $(ARGS)

test: $(STAMP) ## unit, numeric and smoke tests, offline
	HF_HUB_OFFLINE=1 $(BIN)/python -m pytest -m "unit or numeric or smoke" $(PARALLEL) $(ARGS)

test-slow: $(STAMP) ## the tests that take minutes
	HF_HUB_OFFLINE=1 $(BIN)/python -m pytest -m slow $(ARGS)

test-faults: $(STAMP) ## the fault injection tests: long trials of the sandbox, and of runs that are killed, stopped and damaged
	HF_HUB_OFFLINE=1 $(BIN)/python -m pytest -m fault $(ARGS)

lint: $(STAMP) ## check style, types and import directions; changes nothing
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/python -m pytest -q tests/test_import_directions.py
	$(BIN)/pyright --pythonpath $(BIN)/python

bench: $(STAMP) ## time the pipeline's parts against their references, as ratios
	HF_HUB_OFFLINE=1 $(BIN)/python -m benchmarks.run $(ARGS)

docs: $(STAMP) ## make docs/cli.md and docs/outputs.md anew from the parsers and the glossary
	$(BIN)/python -m cli.reference

clean-demo: ## delete the demo's results
	rm -rf data/organism
