# One word each; `make demo` and `make test` need nothing but Python 3.11 or newer, git and a compiler.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# What an install depends on: it compiles the catalogues and the kernel.
BUILD := pyproject.toml setup.py constraints.txt \
	$(wildcard src/seismograd/locale/*/LC_MESSAGES/*.po src/seismograd/measure/native/kernel/*)

.DEFAULT_GOAL := help
.PHONY: help setup demo test check lint types rules catalogues pictures format clean

help:  ## what each word does
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/\1\t\2/p' $(MAKEFILE_LIST) | expand -t 12

$(VENV)/.runs: $(BUILD)
	@test -d $(VENV) || $(PYTHON) -m venv $(VENV)
	@echo "Installing seismograd with torch into $(VENV): some minutes the first time ..."
	$(BIN)/pip install -q -c constraints.txt -e '.[torch]'
	@touch $@

$(VENV)/.develops: $(BUILD)
	@test -d $(VENV) || $(PYTHON) -m venv $(VENV)
	@echo "Installing seismograd with torch and the tools into $(VENV): some minutes the first time ..."
	$(BIN)/pip install -q -c constraints.txt -e '.[torch,view,dev]'
	@touch $@ $(VENV)/.runs

setup: $(VENV)/.develops  ## the environment for development, in .venv

demo: $(VENV)/.runs  ## the main job: record a training run and show its table and diagnosis
	$(BIN)/seismograd run examples/small_net.py

test: check  ## all checks and all tests
	$(BIN)/pytest -n auto -q

check: lint types  ## everything that a tool can check

lint: $(VENV)/.develops  ## style, format, and the arrows between the folders
	$(BIN)/ruff check --quiet
	$(BIN)/ruff format --check --quiet
	$(BIN)/lint-imports --no-logo

types: $(VENV)/.develops  ## pyright, strict
	$(BIN)/pyright --pythonpath $(BIN)/python

rules: $(VENV)/.develops  ## write docs/rules and the table of rules from the rules
	$(BIN)/python tools/rules_pages.py

catalogues: $(VENV)/.develops  ## bring new texts into the message catalogues, and compile them
	$(BIN)/python tools/catalogues.py

pictures: $(VENV)/.develops  ## make the README's pictures again, from real runs
	$(BIN)/python docs/make_pictures.py

format: $(VENV)/.develops  ## mend style and format where a tool can
	$(BIN)/ruff check --fix --quiet
	$(BIN)/ruff format --quiet

clean:  ## everything that can be made again, the environment included
	rm -rf $(VENV) build dist .pytest_cache .ruff_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
	find src \( -name '*.mo' -o -name '*.so' \) -delete
	rm -rf src/*.egg-info
