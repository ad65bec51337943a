# What a developer does, each by one word. Everything happens in .venv, made on first use.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
BASE := build/base
GPTQ := build/gptq
TABLES := tests/realdata/test_a_real_set_for_each_domain.py::test_base_against_tuned_and_the_majority_beside_them

.PHONY: quickstart test slow browser engines gptq quantized realdata realdata-forms realdata-tables realdata-short \
	lint format reference bench bench-suites profile memory clean

quickstart: $(READY)  ## adapt, measure and package the embedded example
	@$(BIN)/tunewright quickstart

test: $(READY)  ## the default tests, what computes on one core and the rest on the other
	$(BIN)/python -m pytest -n 2

slow: $(READY)  ## what takes minutes: fresh environments, the real model
	TEST_THREADS=2 $(BIN)/python -m pytest -m "slow and not realdata" --timeout 1800

browser:  ## Chromium of Debian, in which the slow tests open the report (needs root)
	@command -v chromium > /dev/null || { apt-get update -q && apt-get install --yes -q --no-install-recommends chromium; }

quantized: $(GPTQ)/.ready  ## perplexity and bytes by quantization: make quantized MODEL=folder TEXTS=ori_pqal.json
	OMP_NUM_THREADS=1 $(GPTQ)/bin/python tests/bench/quantized.py $(MODEL) $(TEXTS) --texts 6

gptq: $(GPTQ)/.ready  ## GPTQ and AWQ, in an environment of their own: gptqmodel wants a newer torch than the rest
	TEST_THREADS=2 $(GPTQ)/bin/python -m pytest -m engines --timeout 1800 tests/tunewright_gptqmodel

realdata: $(READY)  ## real public data, where its folder is there: minutes a test
	TEST_THREADS=2 $(BIN)/python -m pytest -m realdata --deselect $(TABLES) --timeout 1800 tests

realdata-forms: $(GPTQ)/.ready  ## an adapter of real rows in every form, certified: a quarter of an hour
	$(GPTQ)/bin/tunewright engines install llama-cpp
	TEST_THREADS=2 $(GPTQ)/bin/python -m pytest -m engines -s tests/realdata/test_every_form_is_certified.py

realdata-tables: $(READY)  ## base against tuned on a real set of each domain: hours on two cores
	TEST_THREADS=2 $(BIN)/python -m pytest -m realdata -s $(TABLES)

realdata-short: $(READY)  ## the part of it that takes minutes
	TEST_THREADS=2 $(BIN)/python -m pytest -m "realdata and not slow" --timeout 1800 tests

engines: $(READY)  ## the engines' own environments, and the tests that ask them
	$(BIN)/tunewright engines install llama-cpp
	$(BIN)/tunewright engines install vllm
	TEST_THREADS=2 $(BIN)/python -m pytest -m engines --timeout 1800 tests

lint: $(READY)  ## formatting, names, types and the direction of imports
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(READY)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

reference: $(READY)  ## docs/reference and the published schema, from the code
	@$(BIN)/python -m tunewright.reference

bench: $(READY)  ## figures against TRL and peft, written to docs/benchmarks.md
	@test -x $(BASE)/bin/python || $(PYTHON) -m venv $(BASE)
	@$(BASE)/bin/python -m pip install --quiet --constraint constraints.txt .
	@$(BASE)/bin/python -m pip install --quiet --no-deps --force-reinstall .
	@$(BASE)/bin/python -m compileall -q $(BASE)/lib
	$(BIN)/python tests/bench/validate_time.py --python $(BASE)/bin/python --record build/bench/figures/validate.json
	$(BIN)/python tests/bench/hostile_time.py
	PYTHONPATH=tests $(BIN)/python -m bench.training

bench-suites: $(READY)  ## the four suites, and the search for what was learnt of them: MODEL=folder ADAPTER=folder
	@test -n "$(MODEL)" -a -n "$(ADAPTER)" || { echo "say which model is asked, and with which adapter of it:" \
		"make bench-suites MODEL=folder ADAPTER=folder"; exit 2; }
	OMP_NUM_THREADS=1 $(BIN)/python tests/bench/near_time.py
	$(BIN)/python tests/bench/suites_time.py $(MODEL) $(ADAPTER)

profile: $(READY)  ## where the time of one training step goes
	@PYTHONPATH=tests $(BIN)/python -m bench.training.profile

memory: $(READY)  ## the forecast of memory against sixteen trainings: a quarter of an hour
	OMP_NUM_THREADS=1 $(BIN)/python tests/bench/memory.py

$(GPTQ)/.ready: pyproject.toml constraints.txt constraints-gptq.txt
	@test -x $(GPTQ)/bin/python || $(PYTHON) -m venv $(GPTQ)
	@sed '/^torch==/d' constraints.txt > $(GPTQ)/constraints.txt
	@$(GPTQ)/bin/python -m pip install --constraint $(GPTQ)/constraints.txt --constraint constraints-gptq.txt \
		--editable ".[dev,gptq]"
	@touch $@

$(READY): pyproject.toml constraints.txt
	@echo "making $(VENV): about two minutes, mostly torch; the next time it is there"
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --constraint constraints.txt --editable ".[dev]"
	@$(BIN)/python -m compileall -q sdk plugins
	@touch $@

clean:
	rm -rf $(VENV) dist build .pytest_cache .mypy_cache .ruff_cache .hypothesis
