# Everything goes through a virtual environment: .venv by default, another with VENV=...
VENV ?= .venv
ifeq ($(OS),Windows_NT)
PYTHON ?= python
BIN := $(VENV)/Scripts
else
PYTHON ?= python3
BIN := $(VENV)/bin
endif
STAMP := $(VENV)/installed

.PHONY: train test install

train: install
	$(BIN)/python scripts/train_iqn.py

test: export OMP_NUM_THREADS = 1
test: install
	$(BIN)/python -m ruff check .
	$(BIN)/python -m ruff format --check .
	$(BIN)/python -m mypy
	$(BIN)/python -m pytest -q -n 2 --dist loadfile

install: $(STAMP)

$(STAMP): pyproject.toml setup.py constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -q -e ".[dev]" -c constraints.txt
	$(BIN)/python -c "open('$@', 'w').close()"
