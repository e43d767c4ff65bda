PYTHON ?= python3
RUN := .venv/bin/python

.PHONY: demo test reproduce-small setup test-all format lint types check docs bench test-browser fuzz dist

demo: ## Set everything up, then run the main job on drawn pictures; open demo/index.html
	@$(PYTHON) scripts/set_up.py core
	@$(RUN) -m deconvnet demo --out demo

test: ## Set everything up, then run the tests
	@$(PYTHON) scripts/set_up.py test
	@$(RUN) -m pytest

setup: ## Set everything up, for work on the code
	@$(PYTHON) scripts/set_up.py test

test-all: ## The long tier too; needs a C++ compiler
	@$(PYTHON) scripts/set_up.py all
	@$(RUN) -m pytest -m "not gpu"

test-browser: setup ## The web page in a real Chromium (apt-get install chromium)
	@$(RUN) -m pytest -n 0 -m browser -rs tests/web

format: setup
	@$(RUN) -m ruff format src tests scripts examples
	@$(RUN) -m ruff check --fix src tests scripts examples

lint: setup
	@$(RUN) -m ruff format --check src tests scripts examples
	@$(RUN) -m ruff check src tests scripts examples
	@.venv/bin/lint-imports

types: setup
	@$(RUN) -m mypy

check: lint types test ## What a change must pass

reproduce-small: setup ## Train a small recipe again and check its score
	@$(RUN) scripts/reproduce.py recipes/scenes-unet-small.yaml

docs: setup ## The site, in site/, and the examples as notebooks in site/notebooks/
	@$(RUN) -m mkdocs build --strict --quiet
	@$(RUN) scripts/draw_notebooks.py site/notebooks

bench: setup ## Measure this machine; takes minutes
	@$(RUN) -m deconvnet bench

fuzz: setup ## 100,000 hostile files for the readers; takes many minutes
	@$(RUN) scripts/fuzz_readers.py

dist: setup ## The wheel, the sdist and their list of ingredients, in dist/
	@$(RUN) scripts/build_dist.py
