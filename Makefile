# Everything a newcomer or CI runs. `make` alone lists it.
SHELL := /bin/sh
.DEFAULT_GOAL := help
.PHONY: help setup ui demo test check chaos bench fuzz docs lock clean

BIN := .venv/bin
STAMP := .venv/.installed
PACKAGES := .venv/.packages
PEER := .venv/.peer
PAGES := .venv/.pages
PYTHON ?= $(shell for p in python3.11 python3.12 python3.13 python3.14 python3; do \
	command -v $$p >/dev/null 2>&1 && $$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null \
	&& echo $$p && break; done)

CLIPS ?= 3
OUT ?= demo
VIDEO ?=
TESTS ?= tests
# Tests that fill the machine, or measure what it does: one after the other. All others share it, two at a time.
IN_A_ROW := tests/browser tests/faults tests/integration/monitor tests/integration/supervisor tests/integration/watch
ARGS ?=
CHAOS_TRIALS ?= 300
WHAT ?=

help: ## List what can be made
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: $(STAMP) $(PACKAGES) $(PAGES) ## Install everything into .venv (done once, and again when the lock changes)

$(STAMP): requirements.lock pyproject.toml
	@test -n "$(PYTHON)" || { echo "Python 3.11 or newer is needed: install python3.11, or name one: make PYTHON=/path/to/python" >&2; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv || { echo "$(PYTHON) cannot make a virtual environment: install its venv module (Debian: apt-get install python3-venv)" >&2; rm -rf .venv; exit 1; }
	@echo "Installing into .venv, about a minute"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

$(PACKAGES): install/packages.sh | $(STAMP)
	@sh install/packages.sh
	@touch $@

# Without them the box runs and the API answers, so a machine that npm cannot reach is told so and goes on.
$(PAGES): $(shell find web/ui -type f -not -path '*/node_modules/*' -not -path '*/dist/*') web/pages.py | $(STAMP)
	@$(BIN)/python -m web.pages && touch $@ || echo "The web pages are not built (see above); the rest works. Again: make ui" >&2

ui: $(STAMP) ## Build the web pages
	$(BIN)/python -m web.pages
	@touch $(PAGES)

demo: setup ## Make clips of a talk: make demo [VIDEO=any.mp4] [CLIPS=3] [OUT=demo]
	@mkdir -p $(OUT)
	@test -n "$(VIDEO)" || test -s $(OUT)/talk.mp4 || $(BIN)/python -m tests.media.maker $(OUT)/talk.mp4 --seconds 60
	$(BIN)/appliance process "$(or $(VIDEO),$(OUT)/talk.mp4)" --clips $(CLIPS) --out $(OUT)

test: setup ## Run the tests: make test [TESTS=tests/unit] [ARGS="-n 2 --dist loadscope"]
ifeq ($(TESTS)$(ARGS),tests)
	$(BIN)/python -m pytest tests $(addprefix --ignore=,$(IN_A_ROW)) -n 2 --dist loadscope
	$(BIN)/python -m pytest $(IN_A_ROW)
else
	$(BIN)/python -m pytest $(TESTS) $(ARGS)
endif

check: setup ## Lint, formatting, types and import direction
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

chaos: setup ## Kill trials at length: make chaos [CHAOS_TRIALS=300]
	CHAOS_TRIALS=$(CHAOS_TRIALS) $(BIN)/python -m pytest tests/faults -m faults --timeout 3600

bench: setup $(if $(or $(filter peer ssot live,$(WHAT)),$(if $(WHAT),,all)),$(PEER)) ## Measure: make bench [WHAT="cut dispatcher peer"]
	$(BIN)/python -m bench $(WHAT)

$(PEER): requirements-bench.lock | $(STAMP)
	@echo "Installing the stack that is compared with: FastAPI and Celery"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-bench.lock
	@touch $@

fuzz: setup ## Property tests at length
	$(BIN)/python -m pytest $(TESTS) -m "not slow and not faults" --hypothesis-profile fuzz --timeout 1800

docs: setup ## Make appliance.yaml, docs/CONFIGURATION.md and docs/CLI.md again from the code
	$(BIN)/python -m appliance.config --template > .new && mv .new appliance.yaml
	$(BIN)/python -m appliance.config --reference > .new && mv .new docs/CONFIGURATION.md
	$(BIN)/python -m appliance.cli.reference > .new && mv .new docs/CLI.md

COMPILE = uv pip compile pyproject.toml --extra dev --extra youtube --universal --python-version 3.11 --generate-hashes \
	--no-header --no-annotate --no-emit-index-url --no-emit-find-links --quiet

lock: ## Make the two lock files again (maintainers; needs uv)
	$(COMPILE) --upgrade -o requirements.lock
	cp requirements.lock requirements-bench.lock
	$(COMPILE) --extra bench -o requirements-bench.lock

clean: ## Remove what was made here, except the data folder
	rm -rf .venv build dist demo out screenshots web/ui/dist web/ui/node_modules .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
