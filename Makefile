# make demo    the main job on the embedded PostHog      make test    the tests, with coverage
# make lint    ruff                                      make type    mypy, strict
# make bench   ratios against peers, in one run          make test-all  the tests on every Python 3.10 to 3.13 here
# make browser the page of the embedded PostHog in Chromium
# make clients the tools for agents in the real packages of their clients, two generations of each
#
# Each target makes .venv with PYTHON and installs what it needs, once.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
SOURCES := setup.py pyproject.toml requirements-dev.txt

.PHONY: demo test test-all browser clients lint type bench clean

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || \
		{ echo "posthog_driver needs Python 3.10 or newer: make PYTHON=python3.11 ..."; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/.demo: $(BIN)/python $(SOURCES)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e ".[local]"
	@touch $@

$(VENV)/.dev: $(BIN)/python $(SOURCES)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements-dev.txt
	@touch $@ $(VENV)/.demo

demo: $(VENV)/.demo
	@$(BIN)/posthog-driver demo

test: $(VENV)/.dev
	$(BIN)/python -m coverage erase
	$(BIN)/python -m coverage run -m pytest $(ARGS)
	@$(BIN)/python -m coverage combine --quiet
	$(BIN)/python -m coverage report

test-all:
	@.ci/test-all

browser: $(VENV)/.dev
	$(BIN)/python -m pip install --quiet --disable-pip-version-check playwright
	$(BIN)/python -m pytest tests/browser $(ARGS)

clients:
	@PYTHON=$(PYTHON) .ci/clients $(ARGS)

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

type: $(VENV)/.dev
	$(BIN)/mypy

bench: $(VENV)/.dev
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r benchmarks/requirements.txt
	$(BIN)/python -m benchmarks

clean:
	rm -rf $(VENV) .venv-* build dist *.egg-info .coverage .coverage.* htmlcov .hypothesis .mypy_cache .pytest_cache .ruff_cache
