# Everything below sets itself up: a virtual environment with the tested versions, then the work.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
# One thread per worker: the tests run in two processes, and small convolutions gain nothing from more.
ENV    := OMP_NUM_THREADS=1 MKL_NUM_THREADS=1

.DEFAULT_GOAL := help
.PHONY: help setup lint type layers test test-slow demo bench readme check clean

help:  ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-10s %s\n", $$1, $$2}'

setup: $(VENV)/.ready  ## virtual environment with the pinned dependencies

$(VENV)/.ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -q --upgrade pip -c constraints.txt
	$(BIN)/python -m pip install -q -c constraints.txt -e '.[dev]'
	touch $@

lint: setup  ## ruff: rules and formatting
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

type: setup  ## mypy, strict
	$(BIN)/mypy

layers: setup  ## who may import whom
	$(BIN)/lint-imports

test: setup  ## all tests but the slow ones, examples in docstrings included
	$(ENV) $(BIN)/python -m pytest -n 2 --dist loadfile -m 'not slow'

test-slow: setup  ## the slow tests alone
	$(ENV) $(BIN)/python -m pytest -n 2 --dist loadfile -m slow

demo: setup  ## draw runways, certify and attack the shipped models, write runs/demo/report.html; needs no data set
	$(BIN)/onelip demo --out runs/demo

bench: setup  ## measure layers, certificates and smoothing statistics: benchmarks/results/*.json
	$(ENV) $(BIN)/python benchmarks/layers.py
	$(ENV) $(BIN)/python benchmarks/certify.py
	$(ENV) $(BIN)/python benchmarks/smoothing.py

readme: setup  ## write the tables of the README from benchmarks/results
	$(BIN)/python benchmarks/readme.py

check: lint type layers test  ## what has to pass before a change lands

clean:  ## remove caches, not results
	rm -rf .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
