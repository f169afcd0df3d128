# make demo        a run from the embedded dataset to a distilled policy (eight minutes)
# make test        lint, type check, tests: what CI runs
# make format      fix what ruff can fix, and format
# make install     dependencies and the command tskd-jax into .venv; the others do it when needed
# JAX=cuda13       (or cuda12, tpu) behind any of them: JAX for that accelerator instead of the CPU
PYTHON ?= python3
JAX ?=
VENV := .venv
BIN := $(VENV)/bin
comma := ,
INSTALLED := $(VENV)/.installed-$(if $(JAX),$(JAX),cpu)

.PHONY: demo test lint types install format clean

demo: install
	$(BIN)/python -m tskd_jax.main --config=configs/hopper.py

# The longest files are among the first of the alphabet: in its order the workers end together.
test: lint types
	$(BIN)/python -m pytest -n 3 --dist loadfile --no-loadscope-reorder

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: install
	$(BIN)/basedpyright --level error

format: install
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

install: $(INSTALLED)

$(INSTALLED): setup.py
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	    { echo 'tskd_jax needs Python 3.11 or newer; try: make PYTHON=python3.12 $(MAKECMDGOALS)'; exit 2; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[test$(if $(JAX),$(comma)$(JAX))]'
	touch $@

clean:
	rm -rf $(VENV) *.egg-info .pytest_cache .ruff_cache
