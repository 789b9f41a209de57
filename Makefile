# Everything from a bare clone: each target makes the virtual environment that it needs.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin

# Processes that share the tests.
WORKERS ?= auto

# Many tests start processes; without files of bytecode, each of them would compile the package anew.
export PYTHONDONTWRITEBYTECODE :=

.PHONY: demo test portable check docs bench format lines notebooks pictures clean

demo: $(VENV)/.core
	$(BIN)/python -m flatgrad demo --plot

# All tests but the slow ones; SLOW=all runs these, too, and SLOW=1/4 the first quarter of them.
SLOW ?= none

test: export FLATGRAD_TEST_SLOW := $(SLOW)
test: $(VENV)/.dev
	$(BIN)/python -m pytest -q -n $(WORKERS) --dist worksteal

# A selection: machine code and NumPy as on processors without AVX-512, and without AVX2; then one core, and a slow clock.
NUMPY := tests/compiler/test_numpy_backend.py
TIMING := tests/nn/test_train.py tests/nn/test_native_training.py tests/compiler/test_native_threads.py
ONE_CORE := $(if $(shell command -v taskset),taskset -c 0)

portable: export FLATGRAD_TEST_EXAMPLES := 0.1
portable: $(VENV)/.dev
	$(BIN)/python -m tests.restricted x86-64-v3 -q -n $(WORKERS) $(NUMPY) tests/compiler/test_native_primitives.py
	$(BIN)/python -m tests.restricted x86-64 -q -n $(WORKERS) $(NUMPY) tests/compiler/test_native.py -m "not slow" -k "not fast"
	FLATGRAD_TEST_CLOCK=50 $(ONE_CORE) $(BIN)/python -m pytest -q $(TIMING) -k "ctrl_c or killed or other_threads or fork"

check: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# The documentation as a site, from nothing; a warning is an error.
docs: $(VENV)/.docs
	$(BIN)/python -m sphinx -q -W --keep-going -E -b html docs build/docs
	@echo "the site: build/docs/index.html"

bench: $(VENV)/.dev
	$(BIN)/python -m pytest benchmarks --benchmark-columns=min,median,rounds --benchmark-sort=name
	$(BIN)/python -m benchmarks --write

format: $(VENV)/.dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# Run the example notebooks, and store their outputs.
notebooks: $(VENV)/.dev
	$(BIN)/python -m tests.notebooks

# Take the pictures of the pages on how it works, in Chromium.
pictures: $(VENV)/.dev
	$(BIN)/python -m tests.pictures

# The numbers of lines in docs/architecture.md.
lines: $(VENV)/.dev
	$(BIN)/python -m tests.lines

clean:
	rm -rf $(VENV) build *.egg-info flatgrad-demo

$(VENV)/bin/python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "flatgrad needs Python 3.11 or newer; run make PYTHON=python3.11")'
	$(PYTHON) -m venv $(VENV)

$(VENV)/.core: pyproject.toml | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --editable '.[plot]'
	touch $@

$(VENV)/.dev: pyproject.toml | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	touch $@ $(VENV)/.core

$(VENV)/.docs: pyproject.toml | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --editable '.[docs]'
	touch $@
