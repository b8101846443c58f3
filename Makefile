# Everything goes through a virtual environment: .venv by default, another with VENV=...
VENV ?= .venv
ifeq ($(OS),Windows_NT)
PYTHON ?= python
BIN := $(VENV)/Scripts
else
PYTHON ?= python3
BIN := $(VENV)/bin
endif

ours := VENV PYTHON ARGS TORCH_INDEX
given := $(foreach name,$(filter-out $(ours) MAKE%,$(.VARIABLES)),$(if $(filter command,$(firstword $(origin $(name)))),$(name)))
ifneq ($(filter-out -*-%,$(given)),)
$(error $(filter-out -*-%,$(given)) is no variable of this Makefile. Settings of the training go into ARGS: make train ARGS="env.track=oval max_minutes=3")
endif

.PHONY: help train test install

help:
	@echo 'make train                       install into $(VENV) and train on the default track'
	@echo 'make train ARGS="env.track=oval max_minutes=3"'
	@echo '                                 the same with other settings; $(BIN)/tm-torchrl train --help lists them'
	@echo 'make install                     install into $(VENV) only; then: $(BIN)/tm-torchrl --help'
	@echo 'make test                        install what developers need too, and run all checks'
	@echo 'Variables: VENV=FOLDER, PYTHON=python3.12, TORCH_INDEX=URL (where to take torch from, see docs/quickstart.md)'

train: $(VENV)/installed-all
	$(BIN)/python scripts/train_iqn.py $(ARGS)

test: export OMP_NUM_THREADS = 1
test: $(VENV)/installed-dev
	$(BIN)/python -m ruff check .
	$(BIN)/python -m ruff format --check .
	$(BIN)/python -m mypy
	$(BIN)/python -m pytest -q -n 2 --dist loadfile

install: $(VENV)/installed-all

$(VENV)/installed-%: pyproject.toml setup.py constraints.txt
	@echo 'Installing into $(VENV): 2 GB with a torch for CPUs, 6 GB with one for NVIDIA cards; minutes, once.'
	$(PYTHON) -m venv $(VENV)
	$(if $(TORCH_INDEX),$(BIN)/python -m pip install torch -c constraints.txt --index-url $(TORCH_INDEX))
	$(BIN)/python -m pip install -e ".[$*]" -c constraints.txt
	$(BIN)/python -c "open('$@', 'w').close()"
