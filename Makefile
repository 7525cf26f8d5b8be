# Everything that is done with this repository is a verb here; `make` lists them.
# It needs git, make and Python 3.11+ with venv. uv is used if it is new enough, else it is installed into .uv.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

UV_VERSION := 0.13.9
UV_MINIMUM := 0.13.0
RECORDINGS ?= ../shared/data
ARGS ?=

# The first interpreter that is new enough. Recursive: only what installs looks for it.
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11 python; do \
	"$$p" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo "$$p" && break; done)
UV := $(shell v=$$(uv --version 2>/dev/null | awk '{print $$2}') || true; \
	if [ -n "$$v" ] && printf '%s\n' $(UV_MINIMUM) "$$v" | sort -V -C; then echo uv; else echo .uv/bin/uv; fi)

# A stamp holds the path that its environment was made at; in a copy of the folder it does not count.
$(shell for e in .venv .venv-interop; do \
	[ ! -f $$e/.ready ] || [ "$$(cat $$e/.ready)" = "$$PWD" ] || mv $$e/.ready $$e/.stale; done)

RUN := .venv/bin/python -m
PYTEST := $(RUN) pytest
PARALLEL := -n auto --dist worksteal

.PHONY: help
help: ## list the verbs
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-17s %s\n", $$1, $$2}' $(firstword $(MAKEFILE_LIST))

.PHONY: setup
setup: .venv/.ready ## make the environment in .venv; every other verb does so itself
	@:

.PHONY: demo
demo: setup ## build the whole lakehouse from bundled recordings, offline, and show it
	@.venv/bin/cryptolake demo $(ARGS)

.PHONY: test
test: setup .venv-interop/.ready ## run every test that needs nothing outside the repository
	@$(PYTEST) $(PARALLEL) -m "not deep and not faults and not recordings" $(ARGS)

.PHONY: test-fast
test-fast: setup ## run the tests that take under a minute together
	@$(PYTEST) $(PARALLEL) -m "not slow and not deep and not faults and not recordings" $(ARGS)

.PHONY: test-deep
test-deep: setup ## run the whole property and crash suites, and record the result in docs/reference/tests.md
	@$(PYTEST) $(PARALLEL) -m deep --junit-xml .pytest_cache/deep.xml $(ARGS)
	@.venv/bin/python docs/record_deep.py .pytest_cache/deep.xml

# Captures wait for venues more than they compute, so there are more of them than cores.
.PHONY: test-faults
test-faults: setup ## run a hundred schedules of faults and kills, and record the result in docs/reference/tests.md
	@$(PYTEST) -n 4 --dist worksteal -m faults --junit-xml .pytest_cache/faults.xml $(ARGS)
	@.venv/bin/python docs/record_faults.py .pytest_cache/faults.xml

.PHONY: test-recordings
test-recordings: setup ## run the tests over the original recordings in RECORDINGS
	@$(PYTEST) $(PARALLEL) -m recordings --recordings="$(RECORDINGS)" $(ARGS)

.PHONY: lint
lint: setup ## check style, formatting and who may import whom
	@$(RUN) ruff check
	@$(RUN) ruff format --check
	@.venv/bin/lint-imports --no-logo

.PHONY: format
format: setup ## format, and mend what can be mended
	@$(RUN) ruff format
	@$(RUN) ruff check --fix

.PHONY: types
types: setup ## check the types, strictly
	@.venv/bin/pyrefly check

.PHONY: docs
docs: setup ## write the generated pages in docs/reference
	@.venv/bin/python docs/generate.py

.PHONY: bench
bench: setup ## measure what the README claims; prints JSON
	@for script in lake transform demo decode spool bars replay stream; do .venv/bin/python bench/$$script.py $(ARGS); done

.PHONY: build
build: .uv-ready ## build the wheel and the source archive into dist
	@rm -rf dist
	@$(UV) build --quiet --out-dir dist
	@ls dist/*.whl

.PHONY: lock
lock: .uv-ready ## resolve all dependencies anew; commit what changes
	@$(UV) lock --upgrade
	@$(UV) pip compile --quiet --upgrade --universal --python-version 3.11 --custom-compile-command "make lock" \
		tests/interop/requirements.in --output-file tests/interop/requirements.txt

.PHONY: clean
clean: ## remove everything that these verbs made
	@rm -rf .venv .venv-interop .uv dist build .pytest_cache .ruff_cache .import_linter_cache .hypothesis
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

# --- environments

.PHONY: .uv-ready
.uv-ready: $(filter .uv/%,$(UV))

.uv/bin/uv:
	@test -n "$(PYTHON)" || { echo "CryptoLake needs Python 3.11 or newer. Install it (Debian, Ubuntu: apt install python3 python3-venv), or name one: make setup PYTHON=/path/to/python3" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { echo "$(PYTHON) cannot make virtual environments. Install its venv module (Debian, Ubuntu: apt install python3-venv)." >&2; exit 1; }
	@echo "installing uv $(UV_VERSION) into .uv" >&2
	@$(PYTHON) -m venv .uv
	@.uv/bin/python -m pip install --quiet --disable-pip-version-check uv==$(UV_VERSION)

.venv/.ready: pyproject.toml uv.lock | .uv-ready
	@echo "installing the locked environment into .venv" >&2
	@[ ! -e .venv/.stale ] || rm -rf .venv
	@UV_PROJECT_ENVIRONMENT=.venv UV_COMPILE_BYTECODE=1 $(UV) sync --frozen --quiet $(if $(PYTHON),--python "$(PYTHON)")
	@echo "$$PWD" > $@

.venv-interop/.ready: tests/interop/requirements.txt .venv/.ready | .uv-ready
	@echo "installing the engines that open our tables into .venv-interop" >&2
	@rm -rf .venv-interop
	@$(UV) venv --quiet --python .venv/bin/python .venv-interop
	@$(UV) pip install --quiet --python .venv-interop/bin/python --requirements tests/interop/requirements.txt
	@echo "$$PWD" > $@
