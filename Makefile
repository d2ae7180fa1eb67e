# `make` alone is help. `make run` and `make test` set up whatever they need.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
RUN := .run

# without bytecode each run and worker compiles the tests again, which takes longer than many of them
PYTEST := env -u PYTHONDONTWRITEBYTECODE $(BIN)/python -m pytest
# tests that share a thing of the machine's, a Docker daemon for one, stay with one worker
WORKERS := -n auto --maxprocesses 8 --dist loadgroup

.DEFAULT_GOAL := help
.PHONY: FORCE help run test test-real lint types floors check fmt fuzz faults cards-check fixtures build wheel-check peers bench accuracy tutorial docs clean

help: ## Show this.
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1	\2/p' $(MAKEFILE_LIST) | expand -t 22

# checked each time: an environment that was left half-made, or that lost its Python, is built again.
# `.run` has what a user installs, and nothing that needs a compiler
$(VENV)/.run $(VENV)/.dev: FORCE
	@GOAL='$(MAKECMDGOALS)' sh registry-fixtures/environment.sh '$(PYTHON)' '$(firstword $(origin PYTHON))' $(VENV) $(@:$(VENV)/.%=%)

FORCE:

run: $(VENV)/.run ## Pull a real small model as an artifact and let it answer.
	@$(BIN)/python registry-fixtures/make.py $(RUN)/registry --only smollm2 --quiet
	@sh registry-fixtures/run.sh $(BIN) $(RUN)

test: $(VENV)/.dev ## Run the tests that need nothing but this checkout.
	$(PYTEST) $(WORKERS) -m 'not real'

test-real: $(VENV)/.dev ## Run the tests with real models, peers' programs, containers and compilers.
	$(PYTEST) $(WORKERS) -m real

fmt: $(VENV)/.dev ## Format the code.
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

lint: $(VENV)/.dev ## Check style, types and floors.
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

fuzz: $(VENV)/.dev ## Garbage for all that reads, a thousand bad networks for the engine.
	$(PYTEST) -q $(WORKERS) -m hypothesis --hypothesis-profile thorough tests/unit
	MODELRUNNER_FUZZ_SECONDS=60 $(BIN)/python -m pytest -q tests/unit/gguf/test_fuzz.py
	MODELRUNNER_FAULT_RUNS=1000 $(BIN)/python -m pytest -q -k random_faults tests/integration/test_transfer_engine.py

faults: $(VENV)/.dev ## Kills, power cuts, failing disks, lying registries by the thousand: a quarter of an hour.
	MODELRUNNER_FAULTS=$${MODELRUNNER_FAULTS:-1} $(BIN)/python -m pytest -q -rP tests/faults

docs: $(VENV)/.run ## Build the site of docs/ into build/site; a link that leads nowhere fails.
	@$(BIN)/python -m venv $(RUN)/docs
	@$(RUN)/docs/bin/python -m pip --disable-pip-version-check --quiet install --editable '.[docs]'
	NO_MKDOCS_2_WARNING=1 $(RUN)/docs/bin/mkdocs build --strict

tutorial: $(VENV)/.dev ## Write what its commands print now into docs/tutorial.md.
	MODELRUNNER_UPDATE_DOCS=1 $(BIN)/python -m pytest -q tests/e2e/test_tutorial.py

cards-check: $(VENV)/.dev ## Check that the generated parts of the cards are fresh.
	$(BIN)/python cards/make.py --check

fixtures: $(VENV)/.dev ## Make the fixture artifacts, and fail where a digest differs.
	$(BIN)/python registry-fixtures/make.py $(RUN)/registry

build: $(VENV)/.dev ## Build sdist and wheel.
	rm -rf dist && $(BIN)/python -m build --outdir dist .

wheel-check: build ## Install the wheel in an empty venv and use it there.
	rm -rf $(RUN)/wheel && $(BIN)/python -m venv $(RUN)/wheel
	$(RUN)/wheel/bin/python -m pip --disable-pip-version-check --quiet install dist/*.whl
	cd $(RUN) && MODELRUNNER_HOME=$$PWD/wheel-home wheel/bin/modelrunner card ai/granite-4.0-micro >/dev/null
	cd $(RUN) && MODELRUNNER_HOME=$$PWD/wheel-home wheel/bin/modelrunner list >/dev/null
	test -s $(RUN)/wheel/share/man/man1/modelrunner-pull.1
	test -s $(RUN)/wheel/share/bash-completion/completions/modelrunner

check: lint test test-real fuzz faults cards-check fixtures wheel-check docs ## All that CI runs.

peers: ## Build the fast tools that `make bench` measures against, once; takes some minutes.
	@.ci/peers

bench: $(VENV)/.dev ## Measure everything side by side with public tools; takes half an hour.
	-$(BIN)/python benchmarks/startup.py
	-$(BIN)/python benchmarks/locked.py
	-$(BIN)/python benchmarks/verify.py
	-$(BIN)/python benchmarks/imports.py
	-$(BIN)/python benchmarks/archives.py
	-$(BIN)/python benchmarks/hugging_face.py
	-$(BIN)/python benchmarks/install.py
	$(BIN)/python registry-fixtures/smollm2.py $(RUN)/registry/files
	-$(BIN)/python benchmarks/chat.py $(RUN)/registry/files/SmolLM2-135M-Instruct.Q4_1.gguf
	-$(BIN)/python benchmarks/serve.py
	-$(BIN)/python benchmarks/serve_stalls.py
	$(BIN)/python benchmarks/transfer.py

accuracy: $(VENV)/.dev ## Make the table of estimates against llama.cpp's own plan.
	$(BIN)/python benchmarks/accuracy.py
	$(BIN)/python benchmarks/offload.py

clean: ## Remove everything that was made here.
	rm -rf $(VENV) $(RUN) dist build .cache .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find . -name __pycache__ -not -path './.git/*' -exec rm -rf {} +
