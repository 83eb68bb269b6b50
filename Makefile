# Everything runs from a virtual environment of the project's own, made on first use.
export LLMOPS_HOME ?= $(CURDIR)/.llmops
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed
# uv does not read pip's settings; where a pip of this machine is told of local wheels, uv is told of them too.
# UV_TORCH_BACKEND=cpu make setup saves several GB of CUDA on machines without a GPU.
export UV_FIND_LINKS ?= $(PIP_FIND_LINKS)

# Compiled modules are kept, whatever the shell says: demo and tests start hundreds of interpreters.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: setup demo down test lint bench clean help
.DEFAULT_GOAL := help

help: ## show this
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/'

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv
	$(BIN)/uv pip install --quiet --python $(BIN)/python -c constraints.txt -e '.[dev,aws,postgres,kubernetes]'
	@touch $(STAMP)

setup: $(STAMP) ## install everything into .venv

demo: setup ## seven pushes, each becoming what it should: about 15 minutes
	$(BIN)/llmops demo

down: setup ## end everything that the demo left running
	$(BIN)/llmops down

# A file's tests stay in one process, for a story is told in order; and the long files, of the chain, come early.
# Three processes keep two cores busy, for many tests wait for programs; `-n auto` counts physical cores, perhaps one.
test: setup ## all tests: real Git, DVC, MLflow, Envoy and llama.cpp
	$(BIN)/python -m pytest -n 3 --dist loadfile --no-loadscope-reorder

lint: setup ## ruff, mypy, import-linter
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: setup ## how fast it is, against baselines measured beside it: benchmarks/results.json; one alone: NAME=noop_plan
	$(BIN)/python -m benchmarks $(NAME)

clean: down ## remove the environment and all local state
	rm -rf $(VENV) $(LLMOPS_HOME)
