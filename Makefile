# make demo, make test: nothing else needs setting up. Python 3.11 or newer.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
INSTALL := $(PIP) install -qq -c constraints.txt

.PHONY: demo fuzz flood kills contract serve test test-slow ohif test-scale lint sums safety sbom hashes verify-hashes bench bench-scale train mutation clean help

help: ## what can be made
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/'

$(VENV)/bin/python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "sonodose needs Python 3.11 or newer: make demo PYTHON=python3.12")'
	$(PYTHON) -m venv $(VENV)

$(VENV)/.service: $(VENV)/bin/python pyproject.toml constraints.txt
	@echo "Installing sonodose into $(VENV) (a minute or two, once)"
	$(INSTALL) -e .
	@touch $@

$(VENV)/.test: $(VENV)/.service
	@echo "Installing what the tests need, PyTorch among it (a few minutes, once)"
	$(INSTALL) -e '.[test]'
	@touch $@

$(VENV)/.lint: $(VENV)/.test
	$(INSTALL) -e '.[lint]'
	@touch $@

demo: $(VENV)/.service ## the whole way on the samples; serves until Ctrl-C (ONCE=1 stops)
	$(BIN)/python tools/demo.py $(if $(ONCE),--once)

serve: $(VENV)/.service ## the service on http://127.0.0.1:8000
	$(BIN)/sonodose serve

test: $(VENV)/.test ## the tests; other people's programs are skipped where absent
	$(BIN)/python -m pytest -n 2 $(ARGS)

test-slow: $(VENV)/.test ## the long ones: many thousand cases
	SONODOSE_SLOW=1 $(BIN)/python -m pytest -n 2 --timeout=3600 $(ARGS)

test-scale: $(VENV)/.test ## the service's tests on PostgreSQL, S3 and a Dask cluster
	$(BIN)/python -m tests.cluster tests/app tests/api $(ARGS)

fuzz: $(VENV)/.test ## 20,000 damaged files at the readers and at a running service
	$(BIN)/python -m tests.fuzz.fuzz $(ARGS)

flood: $(VENV)/.test ## slow clients, 10,000 uploads, one of a gigabyte: others are answered
	$(BIN)/python -m tests.slow.flood $(ARGS)

kills: $(VENV)/.test ## kill -9 of service, workers and Dask workers under load, 50 times
	SONODOSE_KILLS=50 $(BIN)/python -m pytest --timeout=3600 tests/api/test_kill.py $(ARGS)

contract: $(VENV)/.test ## the OpenAPI document, 50 examples an operation (SONODOSE_EXAMPLES)
	SONODOSE_SLOW=1 $(BIN)/python -m pytest --timeout=3600 tests/api/test_openapi.py $(ARGS)

ohif: $(VENV)/.test ## OHIF itself over our DICOMweb (fetches 50 MB from npm, once)
	cd tests/viewer && test -d ohif/package/dist || (mkdir -p ohif && cd ohif && \
		npm pack --silent @ohif/app@3.13.2 && tar -xzf ohif-app-3.13.2.tgz)
	SONODOSE_REQUIRE_JUDGES=1 $(BIN)/python -m pytest tests/viewer/test_ohif.py -v $(ARGS)

mutation: $(VENV)/.test ## wrong doses on purpose: every one must be caught
	$(BIN)/python tests/slow/mutate_clinic.py

lint: $(VENV)/.lint ## lint, format, types, import contracts, security rules
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/bandit -q -c pyproject.toml -r api app models imaging tools

safety sbom: $(VENV)/.test ## the parts of docs/safety that follow from code and environment
	PYTHONPATH=. $(BIN)/python tools/safety_file.py

hashes: $(VENV)/bin/python ## constraints-hashes.txt, after constraints.txt has changed
	$(INSTALL) uv
	rm -f constraints-hashes.txt  # uv would keep the hashes that stand in it
	$(BIN)/uv pip compile -q --universal --python-version 3.11 --no-deps --no-annotate \
		--generate-hashes --no-emit-package torch --custom-compile-command 'make hashes' \
		-o constraints-hashes.txt constraints.txt

verify-hashes: $(VENV)/bin/python ## every package is a file that was pinned (1 GB, once)
	$(PIP) download -q --require-hashes --no-deps --only-binary :all: -d $(VENV)/wheels -r constraints-hashes.txt

sums: $(VENV)/.service ## the SHA-256 of tables and weights, after a reviewed change
	$(BIN)/python -m app.jobs.canary
	$(BIN)/python -m app.shipped

bench: $(VENV)/.test ## ratios and percentiles within one run
	$(BIN)/python tests/bench/bench_model.py
	$(BIN)/python tests/bench/bench_service.py
	$(BIN)/python tests/bench/bench_viewer.py
	$(BIN)/python tests/bench/bench_clinic.py
	$(BIN)/python tests/bench/bench_dicomweb.py
	$(BIN)/python tests/bench/bench_dimse.py
	$(BIN)/python -m tests.imaging.bench_objects

bench-scale: $(VENV)/.test ## 50 clients, two Dask workers, 100,000 studies
	$(BIN)/python tests/bench/bench_load.py
	$(BIN)/python tests/bench/bench_dask.py
	$(BIN)/python tests/bench/bench_work_list.py
	$(BIN)/python tests/bench/bench_dicomweb.py

train: $(VENV)/.test ## a new network: make train DATA=folder
	$(BIN)/sonodose train --data $(DATA)

clean:
	rm -rf $(VENV) build dist *.egg-info demo_output .pytest_cache .mypy_cache .ruff_cache
