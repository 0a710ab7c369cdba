# Every target sets up what it needs: .venv from PyPI and, as root, Debian packages.
BIN    := .venv/bin
PYTHON ?= python3
ARGS   ?=

.PHONY: demo test test-all check fmt bench wheel dev packages

demo: dev packages
	@demo/run

test: dev packages
	$(BIN)/pytest -q -m "not slow" $(ARGS)

test-all: test
	$(BIN)/pytest -q -m slow $(ARGS)

check: dev
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/pytest -q tests/test_floors.py

fmt: dev
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

bench: dev packages
	$(BIN)/python -m bench $(ARGS)

wheel: dev
	$(BIN)/pip wheel -q --no-deps -w dist .

dev: .venv/.ready
packages:
	@tools/packages

.venv/.ready: pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/pip install -q --disable-pip-version-check -e '.[dev]' --config-settings editable_mode=compat
	@touch $@
