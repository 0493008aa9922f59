# Needs Python (3.10 to 3.13) and make, nothing else; everything goes into .venv.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: install demo test lint docs clean

install: $(VENV)/installed

$(VENV)/installed: setup.cfg pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv
	$(BIN)/uv pip install --quiet --compile-bytecode --python $(BIN)/python --editable '.[dev,docs]'
	touch $@

# nnU-Net and SAM2-3dMed, two minutes each, on synthetic CT: a few minutes on two cores
demo: install
	$(BIN)/sam2_3dmed demo -o demo_output $(DEMO_OPTIONS)

# those that train first: they take longest; the first two share no prepared dataset, so none waits for the other
test: install
	$(BIN)/python -m pytest --numprocesses 2 --dist loadfile --no-loadscope-reorder $(TEST_OPTIONS) \
		tests/end_to_end/test_trainers.py tests/end_to_end/test_regions.py tests/end_to_end tests

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python .ci/docstrings.py

# the website, docs/_build/index.html; warnings are errors
docs: install
	$(BIN)/python -m sphinx -W --keep-going --quiet -d docs/_build/.doctrees docs docs/_build

clean:
	rm -rf $(VENV) demo_output build docs/_build *.egg-info
