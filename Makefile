# Commands do all their own set-up, in .venv: `make demo`, `make test`, `make bench`.
PYTHON ?= python3
BIN := .venv/bin
INSTALL := $(BIN)/python -m pip install --quiet --constraint constraints.txt --editable

.PHONY: demo demo-text test test-slow test-core test-oldest test-vision test-integrations test-browser lint docs bench bench-paper clean

demo: .venv/.demo  ## the main job, on real embeddings that ship with the package
	$(BIN)/python examples/demo.py

demo-text: .venv/.demo-text  ## sentences to intents, with a real sentence model
	$(BIN)/python examples/demo_text.py

# A process for each core, and in each one thread for products of matrices.
IN_PARALLEL := -n auto --dist worksteal

test: .venv/.test  ## the whole suite, doctests included
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest $(IN_PARALLEL)

test-slow: .venv/.test  ## what takes minutes: Banking77, all texts, if ../shared is there
	$(BIN)/python -m pytest -m slow -s

CORE := .venv-core/bin

test-core: .venv-core/.installed  ## the tests without extras: those that need one skip
	OMP_NUM_THREADS=1 $(CORE)/python -m pytest $(IN_PARALLEL) tests

OLDEST := .venv-oldest/bin

test-oldest: .venv-oldest/.installed  ## the suite, with the lowest versions promised
	OMP_NUM_THREADS=1 $(OLDEST)/python -m pytest $(IN_PARALLEL)

VISION := .venv-vision/bin

# timm, torchvision and open_clip need a torch that fits torchvision, which on Linux is
# a download of gigabytes: so not in .venv, and not a part of `make test`.
test-vision: .venv-vision/.installed  ## the loaders of timm, torchvision and open_clip
	$(VISION)/python -m pytest tests/embedding/_loaders \
		-k "timm or torchvision or open_clip"

INTEGRATIONS := .venv-integrations/bin

# Some of these libraries hold others back to versions that are not the newest.
test-integrations: .venv-integrations/.installed  ## one real use of each library around us
	$(INTEGRATIONS)/python -m pytest tests/integrations

BROWSER := .venv-browser/bin

# Debian's Chromium and its driver, if they are not there: that needs root.
test-browser: .venv-browser/.installed  ## the report in a real browser
	@command -v chromium >/dev/null && command -v chromedriver >/dev/null || \
		{ apt-get update && apt-get install --yes chromium chromium-driver; }
	$(BROWSER)/python -m pytest tests/inspection/test_browser.py

lint: .venv/.lint  ## formatting, lint, public docstrings, and types as users see them
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/python tools/validate_docstrings.py
	$(BIN)/python tools/check_types.py

docs: .venv/.docs  ## the documentation, into docs/_build/html; warnings are errors
	@rm -rf docs/reference/generated docs/_build/html  # pages of names that are gone
	OMP_NUM_THREADS=1 $(BIN)/sphinx-build -W --keep-going -q -E -b html docs docs/_build/html
	$(BIN)/python tools/check_site.py docs/_build/html

BENCHMARKS := $(filter-out benchmarks/_%,$(wildcard benchmarks/*.py))

bench: .venv/.bench  ## every benchmark, into docs/benchmarks/*.md
	@mkdir -p docs/benchmarks
	@set -e; for script in $(BENCHMARKS); do \
		table=docs/benchmarks/$$(basename $$script .py).md; \
		echo "$$script -> $$table"; \
		$(BIN)/python $$script > $$table; \
		cat $$table; \
	done

bench-paper: .venv/.bench  ## beside the paper's methods and other heads, into docs/benchmarks
	$(BIN)/python benchmarks/paper

clean:
	rm -rf .venv .venv-core .venv-oldest .venv-vision .venv-integrations .venv-browser

.venv:
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("skimprint needs Python >= 3.11, $(PYTHON) is " + sys.version.split()[0] + ". Name a newer one: make PYTHON=python3.12")'
	$(PYTHON) -m venv .venv

.venv-core/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv-core
	$(CORE)/python -m pip install --quiet --constraint constraints.txt \
		--editable . hypothesis pytest pytest-xdist
	@touch $@

.venv-oldest/.installed: pyproject.toml constraints-oldest.txt
	$(PYTHON) -m venv .venv-oldest
	$(OLDEST)/python -m pip install --quiet --constraint constraints-oldest.txt \
		--editable '.[test]'
	@touch $@

.venv-vision/.installed: pyproject.toml constraints-vision.txt
	$(PYTHON) -m venv .venv-vision
	$(VISION)/python -m pip install --quiet --constraint constraints-vision.txt \
		--editable '.[test-vision]'
	@touch $@

.venv-integrations/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv-integrations
	$(INTEGRATIONS)/python -m pip install --quiet --constraint constraints.txt \
		--editable '.[test-integrations]'
	@touch $@

.venv-browser/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv-browser
	$(BROWSER)/python -m pip install --quiet --constraint constraints.txt \
		--editable '.[test-browser]'
	@touch $@

.venv/.%: pyproject.toml constraints.txt | .venv
	@echo "Installing skimprint[$*] into .venv ..."
	@$(INSTALL) '.[$*]'
	@touch $@
