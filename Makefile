# `make check` is the gate: what it accepts may be merged. PYTHON names the interpreter of the environment.
PYTHON ?= python

.PHONY: check format lint types imports test coverage coverage-core faults bench instructions docs diagrams sim mutants

check: lint types imports test

format:
	$(PYTHON) -m ruff format .
	$(PYTHON) -m ruff check --fix .

lint:
	$(PYTHON) -m ruff format --check .
	$(PYTHON) -m ruff check .

types:
	$(PYTHON) -m mypy
	$(PYTHON) -m pyright --pythonpath "$$($(PYTHON) -c 'import sys; print(sys.executable)')"

imports:
	$(PYTHON) -c "from importlinter.cli import lint_imports_command as check; check()"

test:
	$(PYTHON) -m pytest -n auto

coverage:
	$(PYTHON) -m coverage run -m pytest
	$(PYTHON) -m coverage report

# Every branch of the core is taken by its own tests, without a network.
coverage-core:
	$(PYTHON) -m coverage run --source=msilo_core -m pytest tests/core tests/rfc tests/silo
	$(PYTHON) -m coverage report --show-missing --skip-covered --fail-under=100

# Real processes under real faults, as often as the record has it: an hour. Figures are printed behind the tests.
faults:
	MSILO_FAULTS=full $(PYTHON) -m pytest -rP tests/faults tests/sim/test_storm.py

# Many nodes, faults and virtual time: thousands of stories from a seed each, the promises P1 to P10 checked at each step.
sim:
	$(PYTHON) -m tests.sim run --seeds 2000 --workers 2

# Deliberate defects, each of which the simulator must find.
mutants:
	$(PYTHON) -m tests.sim mutants

bench:
	$(PYTHON) -m bench store
	$(PYTHON) -m bench register
	$(PYTHON) -m bench deliver
	$(PYTHON) -m bench mixed
	$(PYTHON) -m bench engine

instructions:
	$(PYTHON) -m bench instructions

# Draws the diagrams and the table of limits in docs/ from the code.
docs diagrams:
	$(PYTHON) docs/generate.py
