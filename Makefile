# Two commands do everything on a fresh machine: `make demo` and `make test`. Both set themselves up in .venv.
# TAPIR_GPU=1 installs torch without the CPU pin, for a machine with a GPU.

PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
CONSTRAINTS := $(if $(TAPIR_GPU),,-c constraints.txt)
STAMP := $(VENV)/.stamp
DEV_STAMP := $(VENV)/.stamp-dev
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check $(CONSTRAINTS)

.PHONY: demo test check lint types setup setup-dev clean help
.DEFAULT_GOAL := help

help:
	@echo "make demo    distil a small student in the embedded world and say where the report is"
	@echo "make test    run the whole test suite"
	@echo "make check   linters, type checker and tests"
	@echo "make setup   only set up .venv;  TAPIR_GPU=1 make setup: with torch for your GPU"
	@echo "make setup-dev   the same with what tests and linters need"
	@echo "make clean   remove .venv and caches (runs are kept)"

setup: $(STAMP)

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "tapir needs Python 3.11 or newer; found $$($(PYTHON) --version). Set PYTHON=/path/to/python3.11"; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(INSTALL) -e ".[embed]"
	@touch $@

setup-dev: $(DEV_STAMP)

$(DEV_STAMP): $(STAMP)
	$(INSTALL) -e ".[dev,embed,serve,track]"
	@touch $@

demo: setup
	$(BIN)/tapir run src/tapir/presets/world.yaml

test: setup-dev
	$(BIN)/python -m pytest -n 2 --dist loadgroup

lint: setup-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: setup-dev
	$(BIN)/mypy

check: lint types test

clean:
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache build
