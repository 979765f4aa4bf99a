# Everything a person runs by hand or CI runs for them. VENV names the virtual environment; .venv unless given.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin

.PHONY: demo test test-long lint format clean

demo: $(VENV)/.installed
	$(BIN)/python -m fsp_tf.main --flagfile=flags/demo.cfg

test: $(VENV)/.installed-dev
	$(BIN)/python -m pytest --numprocesses=auto --dist=loadfile

test-long: $(VENV)/.installed-dev
	$(BIN)/python -m pytest --numprocesses=auto --dist=worksteal -m long

lint: $(VENV)/.installed-dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

format: $(VENV)/.installed-dev
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean:
	rm -rf $(VENV)

$(VENV)/bin/python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or later is needed.")'
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: requirements.txt | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --requirement requirements.txt
	touch $@

$(VENV)/.installed-dev: requirements-dev.txt requirements-export.txt requirements.txt | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --requirement requirements-dev.txt
	touch $@ $(VENV)/.installed
