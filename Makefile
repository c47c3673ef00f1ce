# Two commands do everything on a machine with Python 3.11 or later: make serve, make test.

PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
LISTEN ?= 0.0.0.0:3000
STORE ?= memory

.PHONY: serve test bench bench-peers bench-docs docs piping-check ordeal clean

serve: $(VENV)/.installed
	$(BIN)/twist beam --listen $(LISTEN) --store $(STORE)

test: $(VENV)/.developing
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/pytest --numprocesses 4 --dist loadfile $(PYTEST_ARGS)

bench: $(VENV)/.developing
	$(BIN)/python -m bench $(BENCH_ARGS)

# Beside the relays of bench/peers.toml that are on the path.
bench-peers: $(VENV)/.developing
	$(BIN)/python -m bench.field $(BENCH_ARGS)

# The same, and its tables into docs/performance.md and the README.
bench-docs: $(VENV)/.developing
	$(BIN)/python -m bench.field --docs $(BENCH_ARGS)

# 2 GiB by tus, broken ten times while it is read; ORDEAL_ARGS='--store memory'.
ordeal: $(VENV)/.developing
	PYTHONPATH=tests $(BIN)/python -m resume.ordeal $(ORDEAL_ARGS)

# Needs piping-server-check on the path.
piping-check: $(VENV)/.developing
	PYTHONPATH=tests $(BIN)/python -m profiles.piping_check $(CHECK_ARGS)

docs: $(VENV)/.developing
	$(BIN)/python docs/draw_states.py

clean:
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .ruff_cache .hypothesis

# The wheel is installed, not the tree: what is tested is what users get.
SOURCES = setup.cfg pyproject.toml $(shell find beam twisted -name '*.py')

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: $(SOURCES) | $(BIN)/python
	rm -rf build *.egg-info
	$(BIN)/pip install --quiet --force-reinstall --no-deps .
	$(BIN)/pip install --quiet .
	rm -rf build *.egg-info
	touch $@

$(VENV)/.developing: $(VENV)/.installed
	$(BIN)/pip install --quiet '.[dev]'
	touch $@
