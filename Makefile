# make demo    environment, teacher's weights, and a training run on the generated sample cohort
# make pack    dist/<bundle>_v<version>.zip of the bundle that BUNDLE names
# make test    environment and all tests
# make lint    ruff
# make clean   removes the environment and caches; models and results of runs stay
PYTHON ?= python3
BUNDLE ?= rrl_medsam
ARGS ?=

VENV := .venv
RUN := $(VENV)/bin/python
STAMP := $(VENV)/.requirements-installed

.PHONY: demo pack test lint venv clean
.DELETE_ON_ERROR:

venv: $(STAMP)

# torch goes first, so that a build that is installed or offered beside the registry (CPU only, another CUDA) is kept
$(STAMP): requirements.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "error: Python %d.%d found; 3.11 or newer is wanted (make PYTHON=...)" % sys.version_info[:2])'
	$(PYTHON) -m venv $(VENV)
	$(RUN) -m pip install --disable-pip-version-check --quiet "$$(grep '^torch==' requirements.txt)"
	$(RUN) -m pip install --disable-pip-version-check --quiet -r requirements.txt
	@touch $@

demo: $(STAMP)
	@test -f "bundles/$(BUNDLE)/configs/train.json" || { echo "error: no bundles/$(BUNDLE)/configs/train.json; make demo BUNDLE=<one of: $$(ls bundles | tr '\n' ' ')>" >&2; exit 2; }
	$(RUN) -m common.sam.weights mobile_sam
	$(RUN) -m monai.bundle run --config_file "bundles/$(BUNDLE)/configs/train.json" $(ARGS)

pack: $(STAMP)
	$(RUN) -m tools.pack "bundles/$(BUNDLE)" $(ARGS)

# idle threads sleep instead of spinning: the tests start processes that share few cores
test: export GOMP_SPINCOUNT = 0
test: export OMP_WAIT_POLICY = PASSIVE
test: export PYTHONUTF8 = 1
test: $(STAMP)
	$(RUN) -m pytest $(ARGS)

lint: $(STAMP)
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .

clean:
	rm -rf $(VENV) .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -not -path './.git/*' -prune -exec rm -rf {} +
