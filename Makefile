PYTHON ?= python3
BIN = .venv/bin
# TensorFlow's lines on what hardware it did not find.
export TF_CPP_MIN_LOG_LEVEL ?= 3
# Or each process would compile the modules of TensorFlow again, for seconds.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: demo test docs lint format clean

# Completes two photos with the weights that come along; then pretrains on
# handwritten digits, probes every layer, samples.
# Found without importing scikit-learn, which takes seconds.
PHOTOS = $(shell $(BIN)/python -c "import importlib.util as i; \
	print(i.find_spec('sklearn').submodule_search_locations[0])")/datasets/images
demo: .venv/installed
	$(BIN)/python recipes/sample.py --model=igpt_micro_cifar10 \
		--prompt=$(PHOTOS) --output=runs/photos
	$(BIN)/python recipes/pretrain.py --dataset=placed_digits \
		--preset=igpt_nano --vocabulary_size=17 --batch_size=20 --steps=440 \
		--period=110 --probe_every=220 --run_dir=runs/demo

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

# Python compiles what is imported; of 12,000 modules that is one in twenty.
PIP = $(BIN)/pip install --quiet --no-compile --editable

.venv/installed: .venv/created setup.py
	$(PIP) .
	touch $@

.venv/installed-test: .venv/created setup.py
	$(PIP) ".[test]"
	touch $@

.venv/installed-docs: .venv/created setup.py
	$(PIP) ".[docs]"
	touch $@
