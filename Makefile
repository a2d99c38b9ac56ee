# `make demo` and `make test` each do all of their own set-up, in .venv. PYTHON names another interpreter (3.11 or newer).
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
SOURCES := $(shell find augserver client cuda -type f -not -name '*.pyc' -not -name '*.so') pyproject.toml
PIP := $(BIN)/pip install --quiet --disable-pip-version-check

.PHONY: demo test lint bench generate clean

demo: $(VENV)/demo.stamp
	$(BIN)/augserver demo

# Two files of tests at a time: many of them wait for servers and frameworks to start, and CI has two cores. PYTEST= adds options.
test: $(VENV)/test.stamp
	$(BIN)/pytest -n 2 --dist loadfile$(if $(PYTEST), $(PYTEST))

lint: $(VENV)/test.stamp
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	PYTHON=$(BIN)/python proto/generate.sh --check

bench: $(VENV)/test.stamp
	$(BIN)/python tests/benchmarks/bench_draws.py
	$(BIN)/python tests/benchmarks/bench_ingest.py
	$(BIN)/python tests/benchmarks/bench_kernel.py
	$(BIN)/python tests/benchmarks/bench_wire.py --rounds 3 --window-s 1
	$(BIN)/python tests/benchmarks/bench_page.py --rounds 1 --window-s 1
	$(BIN)/python tests/benchmarks/bench_local.py --rounds 1 --window-s 0.5
	$(BIN)/python tests/benchmarks/bench_delivery.py --rounds 1 --window-s 0.5

generate: $(VENV)/test.stamp
	PYTHON=$(BIN)/python proto/generate.sh

clean:
	rm -rf $(VENV) build dist

$(BIN)/pip:
	$(PYTHON) -c 'import sys; sys.exit(None if sys.version_info >= (3, 11) else f"augserver needs Python 3.11 or newer, this is {sys.version.split()[0]}; set PYTHON=")'
	$(PYTHON) -m venv $(VENV)
	$(PIP) --upgrade "pip>=25.1"

$(VENV)/demo.stamp: $(BIN)/pip $(SOURCES)
	@echo "setting up $(VENV): augserver, its client and TensorFlow (a few minutes the first time)"
	$(PIP) ./client ".[demo]"
	touch $@

$(VENV)/test.stamp: $(BIN)/pip $(SOURCES)
	@echo "setting up $(VENV): augserver, its client and the test tools (a few minutes the first time)"
	$(PIP) ./client ".[demo,train,web]" --group test
	touch $@
