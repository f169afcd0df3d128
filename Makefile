# make demo        a run from the embedded dataset to a distilled policy (eight minutes)
# make test        lint, type check, tests
# make test-slow   the tests that take long: whole runs, several processes, compilers of a GPU and a TPU
# make format      fix what ruff can fix, and format
# make docs        the site, build/site/index.html
# make install     dependencies and the command tskd-jax into .venv; the others do it when needed
# JAX=cuda13       (or cuda12, tpu) behind any of them: JAX for that accelerator instead of the CPU
# DEPENDENCIES=oldest                   the oldest versions that setup.py allows, instead of the newest
PYTHON ?= python3
JAX ?=
DEPENDENCIES ?= newest
VENV := .venv
BIN := $(VENV)/bin
comma := ,
INSTALLED := $(VENV)/.installed-$(if $(JAX),$(JAX),cpu)-$(DEPENDENCIES)
EXTRAS := test$(if $(JAX),$(comma)$(JAX))
pip.newest := pip install --quiet --disable-pip-version-check
pip.oldest := uv pip install --quiet --python $(BIN)/python --resolution lowest-direct

.PHONY: demo test test-slow lint types docs install format clean

demo: install
	$(BIN)/python -m tskd_jax.main --config=configs/hopper.py

# The longest files are among the first of the alphabet: in its order the workers end together.
PYTEST := $(BIN)/python -m pytest -n 3 --dist loadfile --no-loadscope-reorder

test: lint types
	$(PYTEST) -m 'not slow'

test-slow: install
	$(BIN)/python tests/compilers.py
	$(PYTEST) -m slow

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: install
	$(BIN)/basedpyright --level error

docs: install
	$(BIN)/python -m sphinx -q -W --keep-going docs build/site

format: install
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

install: $(INSTALLED)

$(INSTALLED): setup.py
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	    { echo 'tskd_jax needs Python 3.11 or newer; try: make PYTHON=python3.12 $(MAKECMDGOALS)'; exit 2; }
	$(PYTHON) -m venv $(VENV)
	$(if $(filter oldest,$(DEPENDENCIES)),$(BIN)/$(pip.newest) uv)
	$(BIN)/$(pip.$(DEPENDENCIES)) --editable '.[$(EXTRAS)]'
	touch $@

clean:
	rm -rf $(VENV) build docs/api *.egg-info .pytest_cache .ruff_cache
