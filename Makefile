PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: help setup demo test lint types docs clean

help:  ## list the targets
	@sed -n 's/^\([a-z]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 8

# uv takes half of pip's time, but reads no pip.conf, so pip goes on where an index is set there. Without compiled modules each process
# would compile torch's again wherever PYTHONDONTWRITEBYTECODE is set.
setup: $(STAMP)  ## create the environment in .venv

$(STAMP): constraints.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python >= 3.11 is needed; make PYTHON=/path/to/python3.11")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt uv
	$(BIN)/uv pip install --quiet --compile-bytecode --python $(BIN)/python -c constraints.txt -e '.[dev]' || \
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@

demo: $(STAMP)  ## the whole pipeline on scikit-learn's digits, to runs/demo/report.html
	$(BIN)/ltdd-ray run configs/demo.yaml

# Two Ray clusters at once use two cores well. More of them miss the 30 s that Ray gives a cluster to start.
test: $(STAMP)  ## the test suite, in several processes
	$(BIN)/python -m pytest -n auto --maxprocesses 4 -m "not ray" --durations=15
	$(BIN)/python -m pytest -n 2 --dist loadfile -m ray --durations=15

lint: $(STAMP)  ## ruff: rules and format
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(STAMP)  ## pyright
	$(BIN)/pyright

docs: $(STAMP)  ## the documentation, to site/
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet --strict

clean:  ## remove the environment and caches; runs/ stays
	rm -rf $(VENV) build site *.egg-info .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
