# make run      set up and open the dashboard          make test     set up with the test tools and run the tests
# make install  the set-up alone                       make check    linters, types, import floors
# make bench    benchmarks                             make chaos    the long kill-everything campaign
# make monkey   5,000 random keys over a live queue
# make cast WORKSPACE=DIR JOB=ID     the README's animation, from the files of a run that is over
#
# make install VENV=/path/to/env     use an environment of your own; a torch that is in it stays as it is
# make install PIP_FLAGS="--extra-index-url https://download.pytorch.org/whl/cpu"     a small torch for a machine without GPU
SHELL := /bin/bash
VENV ?= .venv
PIP_FLAGS ?=
TEST_JOBS ?= 2# test processes; many tests wait for other processes, few need a core for long
BIN := $(VENV)/bin
STAMP := $(VENV)/.pidec
TEST_TOOLS := [test,check]

.PHONY: run install test check bench chaos monkey cast clean
.DEFAULT_GOAL := run

run: $(STAMP)-run
	@$(BIN)/pidec-tui

install: $(STAMP)-run

test: $(STAMP)-test
	$(BIN)/python -m pytest -n $(TEST_JOBS) --dist loadfile

check: $(STAMP)-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check pidec_train pidec_tui tests benchmarks
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: $(STAMP)-test
	$(BIN)/python -m benchmarks

chaos: $(STAMP)-test
	$(BIN)/python -m tests.manager.chaos

monkey: $(STAMP)-test
	$(BIN)/python -m tests.tui.monkey

cast: $(STAMP)-run
	@[ -n "$(JOB)" ] || { echo "make cast WORKSPACE=DIR JOB=ID: say which job, best a decorator that is over" >&2; exit 2; }
	$(BIN)/python -m pidec_tui.cast $(if $(WORKSPACE),--workspace "$(WORKSPACE)") --job "$(JOB)" --out docs/pictures/cast.svg

clean:
	rm -rf build *.egg-info .pytest_cache .mypy_cache .ruff_cache

$(BIN)/python:
	@python=; for name in $(PYTHON) python3 python3.12 python3.11 python3.10; do \
	  if "$$name" -c 'import sys; sys.exit(not (3, 10) <= sys.version_info < (3, 13))' 2>/dev/null; then python=$$name; break; fi; \
	done; \
	[ -n "$$python" ] || { echo "pidec needs Python 3.10, 3.11 or 3.12 and found none. Say where one is: make install PYTHON=/path/to/python3.11" >&2; exit 2; }; \
	echo "creating $(VENV) with $$("$$python" --version)"; \
	"$$python" -m venv $(VENV) || { rm -rf $(VENV); echo "python -m venv failed. On Debian or Ubuntu it needs python3-venv; without root: conda create or uv venv, then make install VENV=/path/to/that" >&2; exit 2; }

# A torch that is already there is pinned as it is; otherwise constraints.txt says which one to fetch.
define pip_install
	@if kept=$$($(BIN)/python -c 'import importlib.metadata as m; print("torch==" + m.version("torch"))' 2>/dev/null); \
	then echo "keeping $$kept"; echo "$$kept" > $(VENV)/.constraints.txt; else cp constraints.txt $(VENV)/.constraints.txt; fi
	@echo "installing pidec and what it needs into $(VENV): some minutes, once"
	@$(BIN)/python -m pip install --disable-pip-version-check $(PIP_FLAGS) -c $(VENV)/.constraints.txt -e '.$(1)'
	@touch $@
endef

$(STAMP)-run: pyproject.toml constraints.txt | $(BIN)/python
	$(call pip_install,)

$(STAMP)-test: pyproject.toml constraints.txt | $(BIN)/python
	$(call pip_install,$(TEST_TOOLS))
	@touch $(STAMP)-run
