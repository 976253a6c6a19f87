# The commands of this project. Each sets up what it needs first (scripts/bootstrap).
.DEFAULT_GOAL := help
.PHONY: help demo demo-stop test lint format bench clean

export PATH := $(PATH):/usr/local/sbin:/usr/sbin:/sbin
PYTHON := .venv/bin/python
# Extra arguments for pytest: make test ARGS="tests/bgp -k open"; with -n 0 all is one process, one test at a time
ARGS ?=
help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: ## a small Calico cluster on network namespaces: sessions, routes, packets (KEEP=1 leaves it running)
	@scripts/bootstrap demo
	@$(PYTHON) -m examples.demo run

demo-stop: ## remove what KEEP=1 make demo left running
	@scripts/bootstrap demo
	@$(PYTHON) -m examples.demo stop

test: ## all tests; what this machine cannot run is skipped, with the reason
	@scripts/bootstrap test
	$(PYTHON) -m pytest -n 2 --dist loadfile $(ARGS)

lint: ## ruff and mypy --strict
	@scripts/bootstrap lint
	$(PYTHON) -m ruff check .
	$(PYTHON) -m ruff format --check .
	$(PYTHON) -m mypy

format: ## rewrite the files as ruff formats them
	@scripts/bootstrap lint
	$(PYTHON) -m ruff format .
	$(PYTHON) -m ruff check --fix .

bench: ## the reflector beside BIRD 2, FRR and GoBGP; ARGS=list: all benchmarks, ARGS="learn" one of them
	@scripts/bootstrap test
	@$(PYTHON) -m benchmarks $(ARGS)

clean: ## remove caches and .venv
	rm -rf .venv .cache .pytest_cache .mypy_cache .ruff_cache .hypothesis build *.egg-info
