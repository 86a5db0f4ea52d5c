# The project's commands; `make` alone lists them. They need Python 3.11 or newer and git, nothing else.
PYTHON ?= python3
ARGS ?=
BIN := .venv/bin
READY := .venv/ready

export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: help run papers papers-b23 papers-o25 papers-robust check test browser test-processors fuzz bench lab docs clean

# What `make papers-robust` has made: new facts of the run take the place of the old ones, and these stay.
ROBUST := nbs/papers/b23/robustness.ecsv nbs/papers/b23/firmness.ecsv

# A run, the facts of it, the page that the command makes of them, and the notebook of the site.
define MAKE_PAPER
@$(BIN)/specanom run --recipe $(PAPER) --out runs/papers/$(PAPER) $(ARGS)
@$(BIN)/python .ci/chapters.py
@mkdir -p runs/papers/kept
@cp $(ROBUST) runs/papers/kept/ 2>/dev/null || true
@$(BIN)/specanom paper $(PAPER) runs/papers/$(PAPER) --facts nbs/papers/$(PAPER) --out runs/papers/$(PAPER).html $(COMPARE)
@cp $(patsubst %,runs/papers/kept/%,$(notdir $(ROBUST))) nbs/papers/b23/ 2>/dev/null || true
@$(BIN)/python .ci/execute.py nbs/1*_$(PAPER).ipynb
endef

help: ## list the commands
	@sed -n 's/^\([a-z0-9-]*\):.*## /make \1 \t/p' $(MAKEFILE_LIST) | expand -t 24

run: $(READY) ## run the whole chain on the mock survey; options go in ARGS: make run ARGS='--seed 1'
	@$(BIN)/specanom run --profile demo $(ARGS)

papers: papers-o25 papers-b23 ## make the results of both papers that the notebooks 10 and 11 draw; in parts, each of which goes on where it stopped:

papers-b23: PAPER = b23
papers-b23: COMPARE = $$(test -d runs/papers/o25 && echo --compare runs/papers/o25)
papers-b23: $(READY) ## Böhm, Kim & Juneau (2023)
	$(MAKE_PAPER)

papers-o25: PAPER = o25
papers-o25: $(READY) ## Ortiz Manrique & Boquien (2025)
	$(MAKE_PAPER)

check: $(READY) ## run the rules, and the notebooks that differ from main: before each commit
	@$(BIN)/python .ci/check.py $(ARGS)

test: $(READY) ## run every notebook and every other test
	@$(BIN)/python -m pytest tests -n 2 --maxschedchunk 1 --timeout 600 --durations 5 $(ARGS)

browser: $(READY) ## look at the site and at the page of a run in Chrome, Chromium or Edge, which must be there; make test does it where one is
	@SPECANOM_BROWSER=$${SPECANOM_BROWSER:-any} $(BIN)/python -m pytest tests/test_browser.py tests/test_report_browser.py -n 2 $(ARGS)

test-processors: $(READY) ## run the notebooks that train, or use what is trained, as other processors would and on two threads
	@SPECANOM_PROCESSORS='default avx2 threads' $(BIN)/python -m pytest tests/test_notebooks.py -n 2 --maxschedchunk 1 -k test_processor $(ARGS)

fuzz: $(READY) ## damage thousands of files and misbehave as a hundred servers, with a seed; what is lost is an error of ours
	@$(BIN)/python -W ignore tests/fuzz.py $(ARGS)

bench: $(READY) ## run the benchmark, two hours or so; the notebooks 09 draw what it writes into nbs/bench
	@$(BIN)/specanom benchmark --out nbs/bench $(ARGS)

papers-robust: $(READY) ## train B23's networks and flows again, by other seeds and designs, from runs/papers/b23; an hour or so, goes on where it stopped
	@$(BIN)/specanom benchmark --only robust --model runs/papers/b23 --out runs/papers/robust $(ARGS)
	@mkdir -p nbs/papers/b23
	@cp runs/papers/robust/robustness.ecsv runs/papers/robust/firmness.ecsv nbs/papers/b23/

lab: $(READY) ## open the notebooks in JupyterLab
	@cd nbs && ../$(BIN)/jupyter lab $(or $(ARGS),index.ipynb)

docs: $(READY) ## build the site in _docs, with Quarto where it is installed
	@$(BIN)/python .ci/docs.py

clean: ## remove everything that the other commands make, but not the runs
	rm -rf .venv _proc _docs build dist *.egg-info .pytest_cache nbs/.ipynb_checkpoints
	find specanom tests .ci -name __pycache__ -type d -prune -exec rm -rf {} +

# torch comes first and by its exact version, so that its small CPU build is taken where there is one.
# What is imported is compiled then; the rest of 17,000 files never is.
$(READY): settings.ini setup.py
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("specanom needs Python 3.11 or newer, and $(PYTHON) is " + sys.version.split()[0] + "; name another one: make PYTHON=python3.12")'
	@echo 'Setting up .venv: a minute or two, about 2 GB'
	@$(PYTHON) -m venv .venv
	@$(BIN)/pip install --quiet --no-compile torch==2.13.0
	@$(BIN)/pip install --quiet --no-compile -e '.[dev]'
	@touch $@
