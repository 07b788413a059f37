# One target per task; `make` lists them. The work is done by scripts/ and DVC.

PYTHON ?= python3
JOBS ?= 2

VENV := .venv
export PATH := $(CURDIR)/$(VENV)/bin:$(PATH)
# no telemetry
export MLFLOW_DISABLE_TELEMETRY := true
export DVC_NO_ANALYTICS := 1
export DO_NOT_TRACK := 1

.DEFAULT_GOAL := help
.PHONY: help setup demo tess voices test test-slow bench check lint types dvc-lock format lock pretrained clean

help:  ## list every target
	@awk 'BEGIN {FS = ":.*## "} /^[a-z-]+:.*## / {printf "make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup:  ## create the environment .venv from requirements.lock (PYTHON=... names another Python 3.11 to 3.13)
	@$(PYTHON) scripts/setup.py $(VENV)

demo: setup  ## the whole pipeline on a synthetic corpus, offline, in .demo/; a few minutes
	@python scripts/demo.py

tess: setup  ## the whole pipeline on TESS (`dvc repro`): your copy in data/incoming or TESS_DIR, else the official server
	@dvc repro

ALTERED_COPIES ?=
voices: setup  ## the pipeline on TESS, RAVDESS and CREMA-D, in .voices/; ALTERED_COPIES=1 accepts re-encoded copies
	@python scripts/voices.py $(if $(ALTERED_COPIES),--altered-copies)

test: setup  ## fast tests
	@python -m pytest -n $(JOBS) --dist loadfile --no-loadscope-reorder

test-slow: setup  ## slow tests: pipelines, kills, servers, a browser, TESS (TESS_DIR); installs system packages
	@scripts/system-packages
	@python -m pytest -n $(JOBS) --dist loadfile --no-loadscope-reorder -m slow

bench: setup  ## measure speed on TESS (TESS_DIR), compared with librosa, Keras and MLflow; about 20 minutes
	@python benchmarks/table.py

check: lint types dvc-lock  ## lint, types, and whether the lock files agree with the code; trains nothing

lint: setup  ## ruff and import-linter: mistakes, formatting, and which package imports which
	@ruff check .
	@ruff format --check .
	@lint-imports
	@deptry .

types: setup  ## mypy
	@mypy

dvc-lock: setup  ## does dvc.lock agree with code, parameters and tracked results?
	@python scripts/check_lock.py

format: setup  ## fix and format with ruff
	@ruff check --fix .
	@ruff format .

LOCKED := --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header
lock: setup  ## write requirements.lock from pyproject.toml
	@uv pip compile $(LOCKED) --all-extras --output-file requirements.lock pyproject.toml

pretrained: setup  ## after `make voices`: put its package into the library, as the model that `predict` uses by itself
	@python scripts/pretrained.py

clean:  ## remove .demo, .scratch and caches, and print the freed space; keeps data, models, runs and .voices
	@$(PYTHON) scripts/clean.py
