PYTHON ?= python3
BIN = .venv/bin
# TensorFlow's lines on what hardware it did not find.
export TF_CPP_MIN_LOG_LEVEL ?= 3

.PHONY: demo test docs lint format clean

# Pretrains on handwritten digits, probes every layer, samples. About four
# minutes on two CPU cores.
demo: .venv/installed
	$(BIN)/python recipes/pretrain.py --dataset=digits --preset=igpt_nano \
		--vocabulary_size=17 --period=200 --patience=2 \
		--run_dir=runs/demo

test: .venv/installed-test lint
	$(BIN)/python -m pytest -n auto --dist worksteal

# The guide, the reference and the notebook, in site/. A broken link fails.
docs: .venv/installed-docs
	$(BIN)/mkdocs build --strict
	$(BIN)/jupytext --to ipynb --output site/first_run.ipynb docs/first_run.py

lint: .venv/installed-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format: .venv/installed-test
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf .venv runs site

.venv/created:
	$(PYTHON) -m venv .venv
	touch $@

.venv/installed: .venv/created setup.py
	$(BIN)/pip install --quiet --editable .
	touch $@

.venv/installed-test: .venv/created setup.py
	$(BIN)/pip install --quiet --editable ".[test]"
	touch $@

.venv/installed-docs: .venv/created setup.py
	$(BIN)/pip install --quiet --editable ".[docs]"
	touch $@
