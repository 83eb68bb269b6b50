# Everything runs from the project's own virtual environment, created on first use.
export LLMOPS_HOME ?= $(CURDIR)/.llmops
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed
# uv does not read pip's settings; if pip is configured with a folder of local wheels, pass it to uv too.
# UV_TORCH_BACKEND=cpu make setup saves several GB of CUDA on machines without a GPU.
export UV_FIND_LINKS ?= $(PIP_FIND_LINKS)

# Always keep compiled modules: demo and tests start hundreds of interpreters.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: setup demo down test image-test lint bench isolation clean help
.DEFAULT_GOAL := help

help: ## show this
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/'

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv
	$(BIN)/uv pip install --quiet --python $(BIN)/python -c constraints.txt -e '.[dev,aws,postgres,kubernetes,metrics,notify,lm-eval,images]'
	@touch $(STAMP)

setup: $(STAMP) ## install everything into .venv

demo: setup ## seven pushes through the whole chain: 15 to 20 minutes on two cores
	$(BIN)/llmops demo

down: setup ## stop everything that the demo left running
	$(BIN)/llmops down

# A file's tests stay in one process, because some run in order; the long files, tests/chain, come first.
# Four processes keep two cores busy, because many tests wait for programs; `-n auto` counts physical cores, perhaps one.
test: setup ## all tests: real Git, DVC, MLflow, Envoy and llama.cpp
	$(BIN)/python -m pytest -n 4 --dist loadfile --no-loadscope-reorder

image-test: setup ## build this repository's own image, start and health-check it: minutes; root, Docker, a package index
	LLMOPS_TEST_OWN_IMAGE=1 $(BIN)/python -m pytest -m own_image tests/deploy/test_own_image.py

# Tests of isolation are skipped, with the reason, where bubblewrap is missing and cannot be installed.
isolation: ## install bubblewrap (Debian, Ubuntu; as root), which isolates the code of projects
	@command -v bwrap >/dev/null || { test "$$(id -u)" = 0 && command -v apt-get >/dev/null \
		&& apt-get update -qq && apt-get install -y -qq --no-install-recommends bubblewrap; } \
		|| echo "bubblewrap is not installed and cannot be installed here; project code will not be isolated"

lint: setup ## ruff, mypy, import-linter
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: setup ## performance against baselines measured in the same run: benchmarks/results.json; one only: NAME=noop_plan
	$(BIN)/python -m benchmarks $(NAME)

clean: down ## remove the environment and all local state
	rm -rf $(VENV) $(LLMOPS_HOME)
