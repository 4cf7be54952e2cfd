# The contributor's commands. `make demo` and `make test` need Python >= 3.11 and git, nothing else.
PYTHON ?= python3
VENV ?= .venv
# Another build of torch: TORCH='torch==2.13.0 --index-url URL', the URL from pytorch.org's selector.
TORCH ?= torch==2.13.0
# Processes that run the tests, each about 1.5 GB.
WORKERS ?= 2
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: demo test test-slow lint types imports check format bench clean

demo: $(STAMP)
	$(BIN)/evenhand demo

test: $(STAMP)
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadfile

test-slow: $(STAMP)
	$(BIN)/python -m pytest -m slow

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(STAMP)
	$(BIN)/mypy

imports: $(STAMP)
	$(BIN)/lint-imports

check: lint types imports test

format: $(STAMP)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(STAMP)
	$(BIN)/python benchmarks/ala_overhead.py

clean:
	rm -rf $(VENV) runs

$(STAMP): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade 'pip>=25.1'
	$(BIN)/python -m pip install --quiet $(TORCH)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[demo]' --group dev
	touch $(STAMP)
