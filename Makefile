# `make` lists the targets. Each sets up .venv in the checkout on its first call: Python 3.11 is all it takes.

PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
RUN := $(VENV)/bin/python
STAMP := $(VENV)/.installed
WORKERS ?= 2
CACHE := .cache

.DEFAULT_GOAL := help
.PHONY: help demo test lint format benchmarks common-tests

help:  ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /  make \1\t/' | expand -t 22

$(STAMP): setup.py pyproject.toml
	test -x $(RUN) || $(PYTHON) -m venv $(VENV)
	$(RUN) -m pip install --quiet --disable-pip-version-check --editable ".[test]"
	touch $(STAMP)

demo: $(STAMP)  ## caption a few photos with the trained model, and draw where it looked
	$(VENV)/bin/updown demo

test: lint  ## everything that has to hold: style, types, tests and doctests
	$(RUN) -m pytest -n $(WORKERS)

lint: $(STAMP)  ## style and types only
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .
	$(RUN) -m mypy

format: $(STAMP)  ## bring the code into its style
	$(RUN) -m ruff check --fix .
	$(RUN) -m ruff format .

benchmarks: $(STAMP)  ## our speed beside an obvious baseline's, one ratio a line
	set -e; for file in tests/benchmarks/[a-z]*.py; do echo "== $$file"; $(RUN) -m tests.benchmarks.$$(basename $$file .py); done

common-tests: $(STAMP)  ## transformers' own tests on our classes (optional: needs ../shared/common_tests)
	@test -d ../shared/common_tests || { echo "make common-tests needs ../shared/common_tests beside the checkout"; exit 2; }
	$(RUN) -m pip install --quiet parameterized httpx
	mkdir -p $(CACHE)/common_tests && cp ../shared/common_tests/*.py $(CACHE)/common_tests/
	test -d $(CACHE)/common_tests/tests || PATH="$(CURDIR)/$(VENV)/bin:$$PATH" bash ../shared/common_tests/get_tests.sh $(CACHE)/common_tests
	cd $(CACHE)/common_tests && HF_HUB_OFFLINE=1 PYTHONPATH=$(CURDIR) \
		HF_HARNESS_SPEC=$(HARNESS_SPEC) HF_HARNESS_PROC=$(HARNESS_PROC) \
		$(CURDIR)/$(RUN) -m pytest -q -W ignore -n $(WORKERS) test_common.py test_processors.py test_tokenizer.py
