# `make run` opens Majlis, `make test` runs every check. Both set up what they need first; running them again is fast.
PYTHON ?= python3
VENV := .venv
PIP := $(VENV)/bin/python -m pip --disable-pip-version-check

.PHONY: run test benchmarks index space clean

run: $(VENV)/.installed
	@$(VENV)/bin/python app.py $(ARGS)

test: $(VENV)/.tested
	@$(VENV)/bin/python -m ruff check .
	@$(VENV)/bin/python -m pytest $(ARGS)

benchmarks: $(VENV)/.installed
	@$(VENV)/bin/python -m benchmarks $(ARGS)

index: $(VENV)/.installed
	@$(VENV)/bin/python -m index_builder build --corpus assets/corpus --queries assets/queries --out assets/index

# Pushes this checkout to a Hugging Face Space: make space SPACE=you/majlis (log in first: hf auth login)
space: $(VENV)/.installed
	@$(VENV)/bin/python -m demo.space $(SPACE)

$(VENV)/.installed: requirements.txt
	@echo "Majlis: setting up in $(VENV). The first time takes 5 to 15 minutes: packages are fetched and"
	@echo "Majlis: llama-cpp-python is compiled (five minutes on two cores). Later starts take seconds."
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info[:2] >= (3, 11) else "Majlis needs Python 3.11 or newer; this is " + sys.version.split()[0] + ". Set PYTHON=python3.11.")'
	@test -x $(VENV)/bin/python || $(PYTHON) -m venv $(VENV)
	@$(PIP) install --quiet -r requirements.txt
	@touch $@

$(VENV)/.tested: $(VENV)/.installed tests/requirements.txt
	@echo "Majlis: installing what the tests need."
	@$(PIP) install --quiet -r tests/requirements.txt
	@touch $@

clean:
	rm -rf $(VENV) .pytest_cache .hypothesis .ruff_cache runs
