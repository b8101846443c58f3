# Everything goes through a virtual environment: .venv by default, another with VENV=...
VENV ?= .venv
PYTHON ?= python3
ifeq ($(OS),Windows_NT)
BIN := $(VENV)/Scripts
else
BIN := $(VENV)/bin
endif
STAMP := $(VENV)/installed
export OMP_NUM_THREADS ?= 1

.PHONY: train test install

train: install
	$(BIN)/python $(if $(wildcard scripts/train_iqn.py),scripts/train_iqn.py,scripts/drive.py)

test: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m pytest -q

install: $(STAMP)

$(STAMP): pyproject.toml setup.py constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -q -e ".[dev]" -c constraints.txt
	@touch $@
