# Both commands below set themselves up on a fresh machine: a virtual environment in .venv with the tested set of
# packages (constraints.txt) and the CPU build of torch where the package index offers one (see docs/how-to/install.md).
PYTHON ?= python3
VENV ?= .venv
TORCH ?= torch==2.13.0
BIN := $(VENV)/bin
# matminer asks for pandas below 3 in every release so far; what is used of it here never touches pandas
FINGERPRINTS := matminer scikit-learn pymongo threadpoolctl

.PHONY: quickstart test test-engines test-services test-cluster lint docs clean

$(VENV)/.installed: setup.cfg pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet "$(TORCH)"
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[dev]"
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --no-deps $(FINGERPRINTS)
	touch $@

quickstart: $(VENV)/.installed  ## from nothing to a ranked list of candidates
	$(BIN)/crysgen quickstart

test: $(VENV)/.installed  ## the whole test suite, two files at a time
	$(BIN)/python -m pytest --numprocesses 2 --dist loadfile --no-loadscope-reorder

test-engines: $(VENV)/.installed  ## the engines for real; installs Debian's packages if root, fetches pseudopotentials
	PATH="$(abspath $(BIN)):$$PATH" $(BIN)/python tools/engines.py test

test-services: $(VENV)/.installed  ## the tests on PostgreSQL and RabbitMQ; installs Debian's packages if root
	$(BIN)/python tools/services.py install
	CRYSGEN_TEST_SERVICES=1 $(BIN)/python -m pytest --numprocesses 2 --dist loadfile -rs tests/services

test-cluster: $(VENV)/.installed  ## the tests on a private Slurm; installs Debian's packages if root
	$(BIN)/python tools/cluster.py install
	CRYSGEN_TEST_CLUSTER=1 $(BIN)/python -m pytest -v -rs tests/cluster

lint: $(VENV)/.installed  ## style, types and the architecture's import rules
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

docs: $(VENV)/.installed  ## regenerate the reference pages from the code
	$(BIN)/python tools/build_reference.py docs/reference

clean:
	rm -rf $(VENV) build dist *.egg-info docs/_build
