# The commands for people and for CI. VENV is the folder of the virtual environment.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin

.PHONY: demo test test-long faults audit docs lint format release clean

demo: $(VENV)/.installed
	$(BIN)/python -m fsp_tf.main --flagfile=flags/demo.cfg

# Each process has one thread: there are as many processes as cores.
test: $(VENV)/.installed-dev
	TF_NUM_INTRAOP_THREADS=1 TF_NUM_INTEROP_THREADS=1 $(BIN)/python -m pytest --numprocesses=auto --dist=loadfile

test-long: $(VENV)/.installed-dev
	$(BIN)/python -m pytest --numprocesses=auto --dist=worksteal -m long

# Injects real faults: signals, full disks, read-only folders, broken files. Mounting disks needs root.
faults: $(VENV)/.installed-dev
	$(BIN)/python -m pytest -m faults --capture=no

# Asks a network service for known vulnerabilities of every package in the lock, so CI does not run it. It also fails if
# the service cannot be asked about a package, which pip-audit alone does not report.
audit: | $(VENV)/bin/pip
	$(PYTHON) -m venv $(VENV)/audit
	$(VENV)/audit/bin/python -m pip install --quiet pip-audit==2.10.1
	$(VENV)/audit/bin/pip-audit --strict --requirement requirements-lock.txt --require-hashes --disable-pip || \
	    { echo "make audit: see above for a vulnerability, or a package that the service could not be asked about."; exit 1; }

# Builds the documentation site into site/. A broken link or a public name without docstring fails.
docs: $(VENV)/.installed-dev
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict  # with --quiet, warnings would not count

lint: $(VENV)/.installed-dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

format: $(VENV)/.installed-dev
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

# Builds dist/ and tags the commit with the changelog's section of this version. Uploads nothing.
release: $(VENV)/.installed-dev
	.ci/release $(BIN)/python

clean:
	rm -rf $(VENV) site

$(VENV)/bin/pip: # written last, so that a venv without pip is completed
	$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13) and "Python 3.11 to 3.13 is needed.")'
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: requirements.txt | $(VENV)/bin/pip
	$(BIN)/python -m pip install --quiet --requirement requirements.txt
	touch $@

$(VENV)/.installed-dev: requirements-lock.txt | $(VENV)/bin/pip
	$(BIN)/python -m pip install --quiet --require-hashes --requirement requirements-lock.txt
	touch $@ $(VENV)/.installed
