# `make` alone explains the targets.
SHELL := /bin/bash
.SHELLFLAGS := -o pipefail -c
.DEFAULT_GOAL := help

PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
PORT ?= 8080
# Not HOST, which some shells set to the machine's name.
LISTEN ?= 127.0.0.1
SAMPLES ?= .samples
RUN ?= runs/sample
export MODEL_STORE ?= .model-store
export MODEL_NAME ?= food
# Whoever says that Python shall write no bytecode waits for it each time; the tests start hundreds of programs.
export PYTHONDONTWRITEBYTECODE :=

# What `make run` needs, and what the other targets need besides.
RUNNABLE := $(VENV)/.runnable
INSTALLED := $(VENV)/.installed
NODE_INSTALLED := node_modules/.installed
CLIENTS := $(VENV)/clients
CLIENTS_INSTALLED := $(CLIENTS)/.installed
CLIENT_JS := clients/typescript/client.js
SITE := $(VENV)/site
SITE_INSTALLED := $(SITE)/.installed
BATCH := $(VENV)/batch
BATCH_INSTALLED := $(BATCH)/.installed
# The machine's own Node, or else that of .venv.
HAS_NODE = node -e 'process.exit(parseInt(process.versions.node) < 20 ? 1 : 0)' 2>/dev/null && command -v npm >/dev/null
WITH_NODE = PATH="$$(test -x $(BIN)/node && echo "$(CURDIR)/$(BIN):")$$PATH"

.PHONY: help install run litert batch test test-long clients test-clients test-batch test-real test-slow test-emulators emulators check check-web types docs site test-site format bench clean

help: ## Explain the targets
	@grep -hE '^[a-z][a-z-]*:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1\t/' | expand -t 16

install: $(INSTALLED) ## Set up .venv with the pinned requirements; does nothing when it is set up
	@echo "$(VENV) has trainer, admin_cli and the tools of development. Next: make run, make test, or source $(BIN)/activate."

# Modules are compiled when they are first imported, which most never are.
PIP_INSTALL = $(BIN)/pip install --disable-pip-version-check --no-compile

$(RUNNABLE): requirements.txt functions/requirements.txt pyproject.toml setup.py
	@test -x $(BIN)/pip || { echo "Making $(VENV) with $(PYTHON)."; $(PYTHON) -m venv --clear $(VENV); }
	@echo "Installing what Pointer runs on, about 600 MB of packages:"
	@$(PIP_INSTALL) -r requirements.txt | bash scripts/pip_progress.sh
	@$(PIP_INSTALL) --quiet --no-deps --editable .
	@touch $@

$(INSTALLED): requirements-dev.txt requirements-onnx.txt requirements-coreml.txt $(RUNNABLE)
	@echo "Installing the tools of development and the tests:"
	@$(PIP_INSTALL) -r requirements-dev.txt | bash scripts/pip_progress.sh
	@# The tests start hundreds of programs: what these import is compiled once, also where Python may write no bytecode.
	@$(BIN)/python -m compileall -q -j 0 $(VENV)/lib || true
	@touch $@

run: $(RUNNABLE) $(if $(filter 1,$(ON_DEVICE)),litert) ## Serve http://localhost:8080 (PORT=…, LISTEN=…, ON_DEVICE=1); trains and promotes the sample model if nothing is promoted
	@PATH="$(CURDIR)/$(BIN):$$PATH" SAMPLES="$(SAMPLES)" RUN="$(RUN)" LISTEN="$(LISTEN)" PORT="$(PORT)" bash scripts/run.sh

$(NODE_INSTALLED): package.json package-lock.json requirements-node.txt | $(INSTALLED)
	@$(HAS_NODE) || $(BIN)/pip install --quiet --disable-pip-version-check -r requirements-node.txt
	$(WITH_NODE) npm ci --ignore-scripts --no-audit --no-fund --loglevel=error
	@touch $@

emulators: $(INSTALLED) $(NODE_INSTALLED) ## Serve functions, hosting and auth with Firebase's emulators
	@$(WITH_NODE) bash scripts/emulators.sh

$(CLIENTS_INSTALLED): requirements-clients.txt | $(INSTALLED)
	@$(BIN)/python -m venv --clear --without-pip $(CLIENTS)
	$(BIN)/pip --python $(CLIENTS)/bin/python install --quiet --disable-pip-version-check -r requirements-clients.txt
	@touch $@

litert: $(NODE_INSTALLED) ## Put LiteRT.js into functions/litert, for ON_DEVICE=1: the page runs the model in the browser too
	@$(BIN)/python scripts/litert.py

$(CLIENT_JS): $(addprefix clients/typescript/,client.ts pointer.d.ts tsconfig.json tsconfig.build.json) | $(NODE_INSTALLED)
	$(WITH_NODE) node_modules/.bin/tsc --project clients/typescript/tsconfig.build.json
	@touch $@

clients: $(CLIENT_JS) ## Build the client for TypeScript, clients/typescript

test-clients: $(INSTALLED) $(NODE_INSTALLED) $(CLIENTS_INSTALLED) $(CLIENT_JS) ## Call a server with the clients of clients/, and with those that two generators make of openapi.yaml
	$(WITH_NODE) $(BIN)/pytest tests/clients/generated.py tests/clients/packages.py

$(BATCH_INSTALLED): requirements-batch.txt $(RUNNABLE) | $(INSTALLED)
	@$(BIN)/python -m venv --clear --without-pip $(BATCH)
	@echo "Installing Apache Beam into $(BATCH), where it holds back no other package:"
	@$(BIN)/pip --python $(BATCH)/bin/python install --disable-pip-version-check --no-compile --editable '.[batch]' \
		| bash scripts/pip_progress.sh
	@touch $@

batch: $(BATCH_INSTALLED) ## Set up Apache Beam beside .venv, for admin_cli label

test-batch: $(INSTALLED) $(BATCH_INSTALLED) ## Label folders and buckets with Apache Beam, in an environment of its own
	$(PYTEST) $(wildcard tests/batch/beam_*.py)

test-emulators: $(INSTALLED) $(NODE_INSTALLED) ## Test functions, hosting and auth together, with Firebase's emulators
	$(WITH_NODE) $(BIN)/pytest tests/emulators/packaging.py tests/emulators/end_to_end.py

PYTEST = $(BIN)/pytest -n auto --dist loadfile --no-loadscope-reorder --max-worker-restart 0

test: $(INSTALLED) ## Run the tests, a file at a time on each CPU
	$(PYTEST)

test-long: $(INSTALLED) ## Run the tests that take long: trainings killed and resumed, several devices, the wheel
	$(PYTEST) -m long

test-slow: $(INSTALLED) ## Both test-long and test-real, which share the sample model, on all CPUs
	$(PYTEST) -m "long or real_data"

test-real: $(INSTALLED) ## Train on the real photos of POINTER_DATA and compare with the README (minutes)
	$(BIN)/pytest -m real_data -rs

check: $(INSTALLED) ## Lint, check the format, the types and the floors of imports
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

check-web: $(NODE_INSTALLED) ## Lint openapi.yaml, and check the TypeScript types against it and the page against those
	@said=$$($(WITH_NODE) REDOCLY_TELEMETRY=off REDOCLY_SUPPRESS_UPDATE_NOTICE=true \
		node_modules/.bin/redocly lint functions/openapi.yaml --config redocly.yaml 2>&1) || { echo "$$said" >&2; exit 1; }
	@$(WITH_NODE) node_modules/.bin/openapi-typescript functions/openapi.yaml --output clients/typescript/pointer.d.ts --check || \
		{ echo "clients/typescript/pointer.d.ts is not what openapi.yaml says: run make types." >&2; exit 1; }
	$(WITH_NODE) node_modules/.bin/tsc --project clients/typescript
	@$(WITH_NODE) node scripts/contract_page.mjs --check

types: $(NODE_INSTALLED) ## Write what is made of openapi.yaml: the TypeScript types, and the page that is read
	$(WITH_NODE) node_modules/.bin/openapi-typescript functions/openapi.yaml --output clients/typescript/pointer.d.ts
	$(WITH_NODE) node scripts/contract_page.mjs

docs: $(INSTALLED) ## Write docs/cli.md from the help of both command lines
	$(BIN)/python scripts/cli_reference.py

$(SITE_INSTALLED): requirements-site.txt | $(INSTALLED)
	@$(BIN)/python -m venv --clear --without-pip $(SITE)
	$(BIN)/pip --python $(SITE)/bin/python install --quiet --disable-pip-version-check --no-compile -r requirements-site.txt
	@touch $@

site: $(SITE_INSTALLED) ## Make the site of docs/ in site/; a link or an anchor that leads nowhere fails
	@$(SITE)/bin/python scripts/site/pages.py .site
	@rm -rf site
	@$(SITE)/bin/sphinx-build -W --keep-going -q -b html -c scripts/site .site site
	@echo "The site is in site/: open site/index.html."

test-site: $(INSTALLED) $(SITE_INSTALLED) ## Make the site, look at it in Chromium, and break a link of a copy
	$(BIN)/pytest tests/project/site.py

format: $(INSTALLED) ## Format the code and mend what the linter can mend
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(INSTALLED) ## Measure serving, swaps and preprocessing
	$(BIN)/python bench/preprocessing.py
	$(BIN)/python bench/serving.py
	$(BIN)/python bench/buckets.py
	$(BIN)/python bench/swaps.py
	$(BIN)/python bench/status.py

clean: ## Remove the virtual environment and caches; runs, samples and the model store stay
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache *.egg-info functions/*.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
