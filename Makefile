# Every target builds what it needs in a virtual environment of its own (.venv); Python 3.11 and make are enough.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV ?= .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --disable-pip-version-check -q -c constraints.txt

.PHONY: help soup test check lint clean

help:  ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## */\t/' | expand -t 12

soup: $(VENV)/.run  ## Rewarded Soups on halfcheetah: experts, MORL, a sweep of 11 λ, the front (10 to 12 minutes)
	@$(BIN)/rslit recipe configs/locomotion/halfcheetah/recipe.yaml

test: $(VENV)/.dev  ## all tests
	@$(BIN)/python -m pytest

check: lint  ## what a commit must pass: lint, format, types, fast tests
	@$(BIN)/python -m pytest -m "not slow"

lint: $(VENV)/.dev
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy

clean:  ## remove the environment, runs and caches
	rm -rf $(VENV) runs build dist .mypy_cache .ruff_cache .pytest_cache

$(BIN)/python:
	@$(PYTHON) -m venv $(VENV)

$(VENV)/.run: pyproject.toml constraints.txt | $(BIN)/python
	@echo "installing into $(VENV), some minutes the first time"
	@$(PIP) -e '.[locomotion]'
	@touch $@

$(VENV)/.dev: pyproject.toml constraints.txt | $(BIN)/python
	@echo "installing into $(VENV), some minutes the first time"
	@$(PIP) -e '.[locomotion,bench,dev]'
	@touch $@ $(VENV)/.run
