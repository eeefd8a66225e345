# make demo: the main result on this machine, in about ten minutes.  make test: lint, types, tests.
# Both make .venv first where it is missing, with the versions of constraints.txt. PYTHON chooses the interpreter.

PYTHON ?= python3
BIN := .venv/bin
RUNS := demo

.PHONY: demo test test-all lint docs survival pretrained bench bench-long results results-check browser clean

demo: .venv/installed
	$(BIN)/explainft data build --config tiny
	$(BIN)/explainft train --gin_file=gin/none_tiny.gin --gin.MODEL_DIR=$(RUNS)/none
	$(BIN)/explainft train --gin_file=gin/medium_tiny.gin --gin.MODEL_DIR=$(RUNS)/medium
	$(BIN)/explainft eval $(RUNS)/none
	$(BIN)/explainft eval $(RUNS)/medium
	$(BIN)/explainft report $(RUNS)/none $(RUNS)/medium --output $(RUNS)/report

# Two files at a time, the longest first: a test that waits for a command or for a compiler's one thread leaves a core
# to another.
test: lint
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

# All tests but those that need a GPU: slow ones, Hugging Face, TPU compilers, the browser, and T5X where PYTHONPATH has it.
test-all: lint
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[test,hf,tpu,docs]'
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder -m 'not gpu'

lint: .venv/installed
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/basedpyright --pythonpath $(BIN)/python
	$(BIN)/lint-imports --no-cache
	$(BIN)/python -m tests.helpers.banned_words

# The documentation site, in site/: any warning or dead link fails. Built and viewed without the network.
docs: .venv/installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[docs]'
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet

# A short run, killed a hundred times, ends as if nothing had happened.
survival: .venv/installed
	$(BIN)/python -m pytest -m slow
	$(BIN)/python -m tests.survival --kills 100
	$(BIN)/python -m tests.survival.commands --kills 50

# The model behind `explainft solve`: the demo's medium run.
pretrained: .venv/installed
	rm -rf $(RUNS)/export
	$(BIN)/explainft export $(RUNS)/medium $(RUNS)/export
	rm -rf explainft/pretrained/medium_tiny
	mv $(RUNS)/export explainft/pretrained/medium_tiny

# Speed and memory beside Hugging Face, T5X (where it is on PYTHONPATH) and CTranslate2: what fits twenty minutes.
# The files of benchmarks/results hold every turn; a row alone, in any size: python -m benchmarks.decode --help
bench: .venv/installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[bench]'
	$(BIN)/explainft data build --config listops30
	$(BIN)/python -m benchmarks.start
	$(BIN)/python -m benchmarks.train_step --dropout 0.1 --output benchmarks/results/train_step_dropout.json
	$(BIN)/python -m benchmarks.fine_tune --inputs 128 --targets 192
	$(BIN)/python -m benchmarks.decode
	$(BIN)/python -m benchmarks.document

# Training without dropout, the profiles, making the data, evaluating, sampling, and how cost grows: three hours.
bench-long: .venv/installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[bench,serve]'
	$(BIN)/explainft data build --config listops30
	$(BIN)/python -m benchmarks.train_step --output benchmarks/results/train_step.json
	$(BIN)/python -m benchmarks.train_step --profile
	$(BIN)/python -m benchmarks.decode --profile
	$(BIN)/python -m benchmarks.dataset --examples 200000
	$(BIN)/python -m benchmarks.evaluate --warm_ups 1
	$(BIN)/python -m benchmarks.sample --warm_ups 1
	$(BIN)/python -m benchmarks.vote
	$(BIN)/python -m benchmarks.score --warm_ups 1
	$(BIN)/python -m benchmarks.serve --warm_ups 1
	$(BIN)/python -m benchmarks.growth
	$(BIN)/python -m benchmarks.document

# The experiments, hours of them: what is done is not done again. Then the documents that are made from results/.
results: .venv/installed
	set -e; for sweep in sizes modsum explained examples ablations unseen unseen_larger output_vocabulary precision marked steps larger; do $(BIN)/explainft sweep experiments/$$sweep.gin; done
	set -e; for pipeline in voting verifiers sequential; do $(BIN)/explainft pipeline experiments/pipelines/$$pipeline.gin; done
	$(BIN)/python -m experiments.document

results-check: .venv/installed
	$(BIN)/python -m experiments.document --check

# The page of a report in headless Chromium, which must be installed.
browser: .venv/installed
	$(BIN)/python -m pytest -m browser

.venv/installed: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; v = "%d.%d" % sys.version_info[:2]; sys.exit(None if v in ("3.11", "3.12") else \
	    "this is Python %s; explainft is tested on 3.11 and 3.12: run make with PYTHON=/path/to/python3.12" % v)'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[test]'
	@touch $@

clean:
	rm -rf .venv $(RUNS)
