# `make` lists the targets. Each sets up .venv in the checkout on its first call: Python 3.11 is all it takes.
# What is installed has the exact versions of constraints.txt; setup.py says which others will do.

PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
CACHE := .cache
RUN := $(VENV)/bin/python
PIP := -m pip --disable-pip-version-check
INSTALL := $(PIP) install --quiet
LOCKED := $(INSTALL) --constraint constraints.txt
# one .venv, installed as far as was needed: the package itself, then what the tests need
INSTALLED := $(VENV)/.installed-package
TESTABLE := $(VENV)/.installed-tests
OLDEST := $(CACHE)/oldest
NEWEST := $(CACHE)/newest
WORKERS ?= 2
# each worker starts with a share of the list in its order, so that a module's fixtures are made once; idle ones take over
SHARED_OUT = -n $(WORKERS) --dist worksteal
STYLE = $(1) -m ruff check . && $(1) -m ruff format --check . && $(1) -m mypy

# `tests` is also the name of transformers' own package, so its tests run in a folder and with settings of their own
COMMON := .cache/common_tests
COMMON_PYTEST := HF_HUB_OFFLINE=1 $(CURDIR)/$(RUN) -m pytest -c /dev/null --rootdir . -q -W ignore -n $(WORKERS)
MODEL_SPECS = $(shell cd tests/modeling_updown && \
	grep -oHE '^class [A-Za-z]+Spec' common_spec*.py | sed 's/\.py:class /:/' | paste -sd,)

.DEFAULT_GOAL := help
.PHONY: help demo test lint format benchmarks cards common-tests test-oldest test-newest lock

help:  ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /  make \1\t/' | expand -t 22

$(RUN):
	$(PYTHON) -m venv $(VENV)

$(INSTALLED): setup.py constraints.txt | $(RUN)
	@echo "Installing into $(VENV): 3.2 GB to download with PyTorch's build for GPUs, 0.4 GB with the CPU's"
	@echo "(README.md tells how to take that one), and some minutes without a word"
	$(RUN) $(LOCKED) --editable .
	touch $@
	@echo "$(VENV) takes $$(du -sm $(VENV) | cut -f1) MB"

$(TESTABLE): $(INSTALLED)
	$(RUN) $(LOCKED) --editable ".[test]"
	touch $@

demo: $(INSTALLED)  ## caption a few images with the trained model, and draw where it looked
	$(VENV)/bin/updown demo

test: lint  ## everything that has to hold: style, types, tests and doctests
	$(RUN) -m pytest $(SHARED_OUT)

test-oldest:  ## every test with the oldest versions that setup.py allows, in .cache/oldest
	test -x $(OLDEST)/bin/python || $(PYTHON) -m venv $(OLDEST)
	$(OLDEST)/bin/python .ci/pins.py oldest > $(OLDEST)/constraints.txt
	$(OLDEST)/bin/python $(INSTALL) --constraint $(OLDEST)/constraints.txt --editable ".[test]"
	$(OLDEST)/bin/python -m pytest $(SHARED_OUT)

test-newest:  ## style, types and every test with the newest versions that setup.py allows, in .cache/newest
	$(PYTHON) -m venv --clear $(NEWEST)
	$(NEWEST)/bin/python $(INSTALL) --editable ".[test]"
	$(call STYLE,$(NEWEST)/bin/python)
	$(NEWEST)/bin/python -m pytest $(SHARED_OUT)

lock: test-newest  ## resolve every version anew, test them, and only then write constraints.txt
	$(NEWEST)/bin/python .ci/pins.py lock

lint: $(TESTABLE)  ## style and types only
	$(call STYLE,$(RUN))

format: $(TESTABLE)  ## bring the code into its style
	$(RUN) -m ruff check --fix .
	$(RUN) -m ruff format .

benchmarks: $(TESTABLE)  ## our speed beside an obvious baseline's, one ratio a line
	set -e; for file in tests/benchmarks/[a-z]*.py; do echo "== $$file"; $(RUN) -m tests.benchmarks.$$(basename $$file .py); done

cards: $(TESTABLE)  ## bring the cards of the published models in hub_cards up to date, and the links to their code
	set -e; for folder in hub_cards/*/; do made=$(CACHE)/cards/$$(basename $$folder); \
		$(VENV)/bin/updown push $$folder updown/$$(basename $$folder) --dry-run --output $$made; \
		rm -f $$folder/*.py; cp $$made/* $$folder; \
		for source in modeling_updown/*.py processors/*.py; do code=$$folder/$$(basename $$source); \
			if cmp -s $$source $$code; then ln -sf ../../$$source $$code; fi; done; done

common-tests: $(TESTABLE)  ## transformers' own tests on our classes (optional: needs ../shared/common_tests)
	@test -d ../shared/common_tests || { echo "make common-tests needs ../shared/common_tests beside the checkout"; exit 2; }
	$(RUN) $(LOCKED) parameterized httpx setuptools
	mkdir -p $(COMMON) && cp -f ../shared/common_tests/*.py $(COMMON)/
	test -d $(COMMON)/tests || PATH="$(CURDIR)/$(VENV)/bin:$$PATH" bash ../shared/common_tests/get_tests.sh $(COMMON)
	cd $(COMMON) && PYTHONPATH=$(CURDIR)/tests/modeling_updown HF_HARNESS_SPEC=$(MODEL_SPECS) $(COMMON_PYTEST) test_common.py
	cd $(COMMON) && PYTHONPATH=$(CURDIR)/tests/processors HF_HARNESS_PROC=common_spec:ProcSpec $(COMMON_PYTEST) \
		test_processors.py test_tokenizer.py
