# Everything a person or CI runs. `make setup` prepares what the others need, and they call it.

PYTHON ?= python3
BIN := .venv/bin
VENV := .venv/.made
INSTALLED := .venv/.installed
PIP := $(BIN)/python -m pip --disable-pip-version-check --no-input -qq
BOARD_LIBRARIES := import tomllib; print(*tomllib.load(open("pyproject.toml", "rb"))["project"]["optional-dependencies"]["board"])
FROZEN ?=
WORKERS ?= 2
ARGS ?=

MAKEFLAGS += --no-print-directory
.DELETE_ON_ERROR:
.PHONY: help setup run test lint bench image plain-image emulator clean

help: ## this list (make run ARGS=..., make test ARGS=..., make bench ARGS=... pass options on)
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/  make \1\t\2/p' $(firstword $(MAKEFILE_LIST)) | expand -t 16

setup: $(VENV) ## .venv with the tool in .venv/bin/hardwire, and the MicroPython image
	@$(MAKE) -s -j2 $(INSTALLED) plain-image emulator

run: setup ## a virtual board in the foreground; Ctrl-C ends it
	@exec $(BIN)/hardwire virtual up $(ARGS)

test: lint ## lint, then all tests
	@tests/programs.sh
	@$(BIN)/python -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder $(ARGS)

lint: setup ## ruff (rules and format) and codespell
	@$(BIN)/ruff check -q --output-format concise
	@$(BIN)/ruff format -q --check
	@$(BIN)/codespell

bench: setup ## device time beside the stock library, and the virtual board's wall time; ARGS=--keep keeps it
	@$(BIN)/hardwire bench $(ARGS)

image: setup ## build the MicroPython image and print its path; FROZEN=1: with this firmware frozen in
	@$(BIN)/python -m hardwire_host.image $(if $(filter-out 0,$(FROZEN)),--frozen)

clean: ## remove .venv, .cache and everything built
	@rm -rf .venv .cache .pytest_cache .ruff_cache .hypothesis build dist *.egg-info
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

# Needs nothing installed, so that it compiles while pip downloads.
plain-image: $(VENV)
	@PYTHONPATH=host $(BIN)/python -m hardwire_host.image >/dev/null

$(VENV):
	@host/venv.sh "$(PYTHON)" .venv
	@touch $@

# After the image, which has the compiler installed.
emulator: $(INSTALLED) plain-image
	@$(BIN)/python -m hardwire_host.native

# The board libraries come without their dependencies, which serve other interpreters.
$(INSTALLED): pyproject.toml $(VENV)
	@echo "setup: installing Python packages" >&2
	@$(PIP) install -e '.[virtual,test]'
	@$(PIP) install --no-deps $$($(BIN)/python -c '$(BOARD_LIBRARIES)')
	@touch $@
