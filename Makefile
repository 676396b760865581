# `make` lists the targets. Each sets up .venv in the checkout on its first call: Python 3.11 is all it takes.

PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
CACHE := .cache
RUN := $(VENV)/bin/python
STAMP := $(VENV)/.installed
WORKERS ?= 2

# `tests` is also the name of transformers' own package, so its tests run in a folder and with settings of their own
COMMON := .cache/common_tests
COMMON_PYTEST := HF_HUB_OFFLINE=1 $(CURDIR)/$(RUN) -m pytest -c /dev/null --rootdir . -q -W ignore -n $(WORKERS)
MODEL_SPECS = $(shell grep -oE '^class [A-Za-z]+Spec' tests/modeling_updown/common_spec.py | sed 's/class /common_spec:/' | paste -sd,)

.DEFAULT_GOAL := help
.PHONY: help demo test lint format benchmarks cards common-tests

help:  ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /  make \1\t/' | expand -t 22

$(STAMP): setup.py
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

cards: $(STAMP)  ## bring the code and cards of the published models in hub_cards up to date
	set -e; for folder in hub_cards/*/; do name=$$(basename $$folder); \
		$(VENV)/bin/updown push $$folder updown/$$name --dry-run --output $(CACHE)/cards/$$name; \
		cp $(CACHE)/cards/$$name/* $$folder; done

common-tests: $(STAMP)  ## transformers' own tests on our classes (optional: needs ../shared/common_tests)
	@test -d ../shared/common_tests || { echo "make common-tests needs ../shared/common_tests beside the checkout"; exit 2; }
	$(RUN) -m pip install --quiet --disable-pip-version-check parameterized httpx setuptools
	mkdir -p $(COMMON) && cp -f ../shared/common_tests/*.py $(COMMON)/
	test -d $(COMMON)/tests || PATH="$(CURDIR)/$(VENV)/bin:$$PATH" bash ../shared/common_tests/get_tests.sh $(COMMON)
	cd $(COMMON) && PYTHONPATH=$(CURDIR)/tests/modeling_updown HF_HARNESS_SPEC=$(MODEL_SPECS) $(COMMON_PYTEST) test_common.py
	cd $(COMMON) && PYTHONPATH=$(CURDIR)/tests/processors HF_HARNESS_PROC=common_spec:ProcSpec $(COMMON_PYTEST) \
		test_processors.py test_tokenizer.py
