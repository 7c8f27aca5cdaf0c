# make demo   environment + the main job on procedural clips (no download, no GPU)
# make test   environment + lint, types, floors, documentation and the test suite: what CI runs
# make nightly  slow tests, thousands of fuzz cases with seeds of the day, and a hundred kills
# make docs   environment + the documentation site in docs/_build
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.ready

# import-linter, without the finder of the editable install: that takes the folder above the checkout
# for a part of the package, because configs/ and data/ travel inside it
SITE   = $(BIN)/python -c 'import site; print(site.getsitepackages()[0])'
FLOORS = PYTHONPATH=".:$$($(SITE))" $(BIN)/python -S \
	-c 'from importlinter.cli import lint_imports_command as lint; lint()'

FUZZ_CASES ?= 10000
KILLS      ?= 100
DAY        := $(shell date +%Y%m%d)

.PHONY: demo test nightly lint docs format clean

demo: $(READY)
	$(BIN)/mmdiff-video demo --out demo-output

test: lint docs
	$(BIN)/pytest -n auto --dist worksteal

# both, whatever the first one finds
nightly: $(READY)
	failed=0; \
	$(BIN)/pytest -m slow || failed=1; \
	$(BIN)/pytest tests/fuzz --fuzz-cases $(FUZZ_CASES) --fuzz-from $(DAY)000000 || failed=1; \
	$(BIN)/pytest tests/kills --kills $(KILLS) --kills-from $(DAY)000 || failed=1; \
	exit $$failed

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright
	$(FLOORS)

# strict: a link or a reference that leads nowhere is an error
docs: $(READY)
	rm -rf docs/reference
	$(BIN)/python -m sphinx --fail-on-warning --keep-going --quiet --builder html docs docs/_build

format: $(READY)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

$(READY): pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' \
	  || { echo "mmdiff-video needs Python 3.11 to 3.13; choose one with: make PYTHON=python3.12 ..."; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --upgrade pip
	$(BIN)/pip install --quiet --editable '.[dev]'
	touch $(READY)

clean:
	rm -rf $(VENV) build dist demo-output docs/_build docs/reference
