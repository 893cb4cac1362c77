# Warren's short commands.  Everything is installed into .venv; nothing else on this machine changes,
# except that `make demo` and `make up` install RabbitMQ and PostgreSQL where they are missing.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.PHONY: help venv demo up down check format lint types layers unit test bench bench-aggregation bench-peers \
	docs clean

PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/.installed
export PIP_DISABLE_PIP_VERSION_CHECK := 1
export PIP_ROOT_USER_ACTION := ignore

help: ## Say what can be made
	@sed -n 's/^\([a-z-]*\):.*## /  make \1\t/p' $(MAKEFILE_LIST) | expand -t 27

venv: $(STAMP) ## Make .venv with everything at its pinned version

# Debian keeps what makes virtual environments in a package of its own.
$(BIN)/pip:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null \
		|| { echo "Warren needs Python 3.11 or later as '$(PYTHON)': name another with make PYTHON=..." >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null \
		|| if [ "$$(id -u)" = 0 ] && command -v apt-get > /dev/null; then \
			echo "installing python3-venv"; \
			apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -qq -y python3-venv > /dev/null; \
		else \
			echo "$(PYTHON) cannot make virtual environments: run 'apt-get install python3-venv' as root" >&2; exit 1; \
		fi
	@$(PYTHON) -m venv .venv

# torch alone and first: pip's default would otherwise resolve it together with gigabytes for GPUs.
$(STAMP): pyproject.toml constraints.txt | $(BIN)/pip
	@echo "installing what Warren needs into .venv (once; some minutes on a slow line)"
	@$(BIN)/pip install -qq -c constraints.txt "torch==2.13.0"
	@$(BIN)/pip install -qq -c constraints.txt -e '.[dev]'
	@touch $@

demo: $(STAMP) ## Train a model across four sites on real servers; STRATEGY=FedAdam OPTIONS='{"eta": 0.05}'
	@$(BIN)/warren demo$(if $(STRATEGY), --strategy $(STRATEGY))$(if $(OPTIONS), --options '$(OPTIONS)')

up: $(STAMP) ## Start the stack for your own use
	@$(BIN)/warren up

down: $(STAMP) ## Stop it; the data stays
	@$(BIN)/warren down

check: $(STAMP) ## Format, lint, types, architecture, quick unit and contract tests: under a minute
	@$(MAKE) --no-print-directory --jobs=2 --keep-going --output-sync=target format lint layers types unit
	@echo "check: all good"

format:
	@$(BIN)/ruff format --check --quiet

lint:
	@$(BIN)/ruff check --quiet

layers:
	@$(BIN)/lint-imports > .venv/lint-imports.log || { cat .venv/lint-imports.log; exit 1; }

types:
	@$(BIN)/mypy --no-error-summary

unit:
	@$(BIN)/pytest tests/unit tests/contract -m "not integration and not slow" --numprocesses=2

test: $(STAMP) ## All tests, on real servers they start themselves
	@$(BIN)/pytest tests/unit tests/contract -m "not integration" --numprocesses=2
	@$(BIN)/pytest -m "integration or e2e"

bench: $(STAMP) ## Measure, one figure per line
	@$(BIN)/python -m tests.bench

bench-aggregation: $(STAMP) ## Measure the aggregator: memory, speed, and how near it comes to reading alone
	@$(BIN)/python -m tests.bench.aggregation $(if $(QUICK),--quick)

# Flower is no dependency of ours: name a Python that has it.
PEERS_PYTHON ?= $(BIN)/python
bench-peers: $(STAMP) ## The same updates to Flower, if PEERS_PYTHON has it
	@$(BIN)/python -m tests.bench.peers --python $(PEERS_PYTHON) $(if $(QUICK),--quick)

docs: $(STAMP) ## Write the generated pages again
	@$(BIN)/python -m docs.generate

clean: ## Stop the stack, then remove it with its data, .venv and caches
	@if [ -x $(BIN)/warren ] && [ -e .warren/stack.json ]; then $(BIN)/warren down; fi
	@rm -rf .venv .warren build demo-report *.egg-info .pytest_cache .mypy_cache .ruff_cache \
		.hypothesis .import_linter_cache
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
