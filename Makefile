# Two commands are the promise: `make demo` and `make test`. Each sets up everything it needs.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
UV_VERSION := 0.13.9
# Empty means "write .pyc files": without them every process start costs three times as much.
export PYTHONDONTWRITEBYTECODE :=
export UV_PYTHON_DOWNLOADS := never
export OMP_WAIT_POLICY := passive

.DEFAULT_GOAL := help
.PHONY: help setup demo test check bench bench-features bench-healing bench-learning bench-promotion bench-serving heal-bench up lock clean

help: ## list the commands
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/'

setup: $(VENV)/.ready ## install the locked dependencies into .venv

$(VENV)/.ready: requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; v = sys.version_info; (3, 11) <= v[:2] < (3, 14) or sys.exit("found Python %d.%d, expected 3.11, 3.12 or 3.13.\n\nHint: name another interpreter: make PYTHON=python3.12 ..." % v[:2])'
	@test -x .venv-boot/bin/uv || { $(PYTHON) -m venv .venv-boot && .venv-boot/bin/pip install --quiet uv==$(UV_VERSION); }
	@test -x $(BIN)/python || .venv-boot/bin/uv venv --quiet --python $(PYTHON) $(VENV)
	.venv-boot/bin/uv pip sync --quiet --require-hashes --python $(BIN)/python requirements.lock
	.venv-boot/bin/uv pip install --quiet --no-deps --no-build-isolation --python $(BIN)/python --editable .
	@touch $@

demo: setup ## run the whole loop once, on simulated traffic
	@$(BIN)/fraud-platform demo

# One worker more than two cores: a quarter of the time, tests wait for processes and clocks.
test: setup check ## lint, types, import contract and every test
	@$(BIN)/pytest -q -n 3 --dist loadgroup

check: setup
	@$(BIN)/ruff check . && $(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports

bench: bench-features bench-serving ## all benchmarks: ratios against a floor or a peer, each with its goal

bench-features: setup ## the feature engines, on the benchmark data or a simulation; ROWS=N for less
	@$(BIN)/python -W ignore -m benchmarks.features $(if $(ROWS),--rows $(ROWS))

bench-serving: setup ## the scorer against its floor and its peers, about 4 minutes; ROWS=N for less
	@$(BIN)/python -W ignore -m benchmarks.serving $(if $(ROWS),--rows $(ROWS))

bench-healing: setup ## flip, update and roll-back on a running scorer, about 3 minutes
	@$(BIN)/python -W ignore -m benchmarks.healing $(if $(ROWS),--rows $(ROWS))

heal-bench: setup ## faults against our healing and two others, 40 minutes of CPU; writes the README's table
	@$(BIN)/fraud-platform heal bench --out docs/benchmarks --readme README.md

bench-promotion: setup ## how often the gates promote a worse and a better model, about 2 minutes of CPU
	@$(BIN)/python -W ignore -m benchmarks.promotion

bench-learning: setup ## retraining without the truth about declines, and planted leaks, about 7 minutes of CPU
	@$(BIN)/python -W ignore -m benchmarks.learning
	@$(BIN)/python -W ignore -m benchmarks.leaks --seeds 1

up: setup ## Dagster UI, scorer and MLflow UI on localhost
	@$(BIN)/fraud-platform up

lock: ## resolve the dependencies anew into requirements.lock
	@test -x .venv-boot/bin/uv || { $(PYTHON) -m venv .venv-boot && .venv-boot/bin/pip install --quiet uv==$(UV_VERSION); }
	.venv-boot/bin/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-annotate --no-emit-index-url --group dev pyproject.toml --output-file requirements.lock

clean: ## remove the environment and the platform's home
	rm -rf .venv .venv-boot .fraud
