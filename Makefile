# Everything goes through a virtual environment: .venv by default, another with VENV=...
VENV ?= .venv
ifeq ($(OS),Windows_NT)
PYTHON ?= python
BIN := $(VENV)/Scripts
else
PYTHON ?= python3
BIN := $(VENV)/bin
endif

.PHONY: train test install

train: $(VENV)/installed-all
	$(BIN)/python scripts/train_iqn.py

test: export OMP_NUM_THREADS = 1
test: $(VENV)/installed-dev
	$(BIN)/python -m ruff check .
	$(BIN)/python -m ruff format --check .
	$(BIN)/python -m mypy
	$(BIN)/python -m pytest -q -n 2 --dist loadfile

install: $(VENV)/installed-all

$(VENV)/installed-%: pyproject.toml setup.py constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -q -e ".[$*]" -c constraints.txt
	$(BIN)/python -c "open('$@', 'w').close()"
