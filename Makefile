# Two commands do all the set-up: `make run` and `make test`.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
OUT ?= runs/quickstart

.PHONY: run test test-clusters lint install benchmarks clean

run: $(VENV)/.installed  ## the quickstart study, through to report and MLflow
	$(BIN)/toposweep run quickstart --out $(OUT)

test: $(VENV)/.installed-test lint  ## linters, types, tests
	$(BIN)/python -m pytest

test-clusters: $(VENV)/.installed-test  ## clusters of several hosts: faults, chaos, Slurm
	$(BIN)/python -m pytest -m cluster

lint: $(VENV)/.installed-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

benchmarks: $(VENV)/.installed-test  ## speed, each beside a named alternative
	for bench in tests/benchmarks/bench_*.py; do echo "== $$bench"; $(BIN)/python $$bench || exit 1; done

install: $(VENV)/.installed

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --editable .
	touch $@

$(VENV)/.installed-test: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --editable '.[test]'
	touch $@ $(VENV)/.installed

clean:
	rm -rf $(VENV) build *.egg-info
