# make demo    environment, teacher's weights, and a training run on the generated sample cohort
# make pack    dist/<bundle>_v<version>.zip of the bundle that BUNDLE names
# make wheelhouse  OUT=FOLDER: wheels, weights and packed bundles for a site without a network, with sums (docs/offline.md)
# make test    environment and all tests that need no client
# make lint    ruff, spelling, types, and which room imports which
# make test-clients  an environment for each of MONAI Label, NVFLARE and MONAI Deploy, and the tests against them
# make test-hospital  MONAI Label on an archive (Debian's orthanc) and its viewer in a browser (Debian's chromium)
# make clean   removes the environments and caches; models and results of runs stay
PYTHON ?= python3
BUNDLE ?= rrl_medsam
OUT ?= dist/wheelhouse
ARGS ?=
# a demo trains for under five minutes on two cores: 12 of the 20 epochs that are the default (ARGS="--epochs 20")
SHORTER_rrl_medsam := --epochs 12
# processes that share the tests by file; each takes about 2 GB
JOBS ?= 2

VENV := .venv
RUN := $(VENV)/bin/python
PIP_QUIETLY := --disable-pip-version-check --quiet --no-compile
STAMP := $(VENV)/.requirements-installed
CLIENTS := monailabel nvflare deploy
CLIENT_STAMPS := $(CLIENTS:%=.venv-%/.requirements-installed)

.PHONY: demo pack wheelhouse test test-clients test-hospital client-venvs lint venv clean
.DELETE_ON_ERROR:

venv: $(STAMP)

# torch goes first, by version alone, so that a build that is installed or offered beside the registry (CPU only, another
# CUDA) is kept. All others have to have a sha256 of the lock file; the registry's own torch for Linux wants CUDA's, too.
CUDA := from importlib.metadata import requires, version; \
	print("-r requirements-cuda.lock" * ("+" not in version("torch") and "nvidia" in str(requires("torch"))))
$(STAMP): requirements.txt requirements.lock requirements-cuda.lock
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "error: Python %d.%d found; 3.11 or newer is wanted (make PYTHON=...)" % sys.version_info[:2])'
	$(PYTHON) -m venv $(VENV)
	$(RUN) -m pip install --disable-pip-version-check --quiet --no-deps "$$(grep '^torch==' requirements.txt)"
	$(RUN) -m pip install --disable-pip-version-check --quiet --require-hashes -r requirements.lock $$($(RUN) -c '$(CUDA)')
	@touch $@

# A client has an environment of its own, because their pins exclude each other. Its constraints hold for all that its
# requirements bring, and for what is built on the way, too. Nothing is compiled beforehand: Python does that for what it
# imports. The environments hold the same torch, ITK and SimpleITK: where util-linux' hardlink is there, such a file is kept once.
client-venvs: $(CLIENT_STAMPS)

$(CLIENT_STAMPS): .venv-%/.requirements-installed: tests/clients/%_requirements.txt tests/clients/%_constraints.txt | $(STAMP)
	$(PYTHON) -m venv $(@D)
	PIP_CONSTRAINT=$(word 2,$^) $(@D)/bin/python -m pip install $(PIP_QUIETLY) "$$(grep '^torch==' $<)"
	SAM2_BUILD_CUDA=0 PIP_CONSTRAINT=$(word 2,$^) $(@D)/bin/python -m pip install $(PIP_QUIETLY) -r $<
	@test $* != monailabel || $(PYTHON) -m tools.torchvision_remedy $(@D)/bin/python
	@! command -v hardlink >/dev/null || hardlink --quiet --ignore-time --keep-oldest --minimum-size 1M $(VENV) $(@D)
	@touch $@

demo: $(STAMP)
	@test -f "bundles/$(BUNDLE)/configs/train.json" || { echo "error: no bundles/$(BUNDLE)/configs/train.json; make demo BUNDLE=<one of: $$(ls bundles | tr '\n' ' ')>" >&2; exit 2; }
	$(RUN) -m common.sam.weights mobile_sam
	$(RUN) -m monai.bundle run --config_file "bundles/$(BUNDLE)/configs/train.json" $(SHORTER_$(BUNDLE)) $(ARGS)

pack: $(STAMP)
	$(RUN) -m tools.pack "bundles/$(BUNDLE)" $(ARGS)

wheelhouse: $(STAMP)
	$(RUN) -m tools.wheelhouse "$(OUT)" $(ARGS)

# idle threads sleep instead of spinning: the tests start processes that share few cores, and beside another program that
# works SAM took the demo half a minute for a volume instead of a second or two
demo test test-clients test-hospital: export GOMP_SPINCOUNT = 0
demo test test-clients test-hospital: export OMP_WAIT_POLICY = PASSIVE
test test-clients test-hospital: export PYTHONUTF8 = 1
test: $(STAMP)
	$(RUN) -m pytest -n $(JOBS) --dist loadfile $(ARGS)

test-clients: export MONAILABEL_PYTHON = .venv-monailabel/bin/python
test-clients: export NVFLARE_PYTHON = .venv-nvflare/bin/python
test-clients: export DEPLOY_PYTHON = .venv-deploy/bin/python
test-clients: $(STAMP) $(CLIENT_STAMPS)
	$(RUN) -m pytest tests/clients -n $(JOBS) --dist loadfile $(ARGS)

# What these tests need beside the main environment lies in one that sees it, and its programs (itkimage2segimage) are on PATH.
# Orthanc and the browser are Debian's: without one of them the tests skip, and say which package is missing.
HOSPITAL := .venv-hospital
HOSPITAL_STAMP := $(HOSPITAL)/.requirements-installed
$(HOSPITAL_STAMP): tests/hospital/requirements.txt | $(STAMP)
	$(PYTHON) -m venv $(HOSPITAL)
	$(RUN) -c 'import sysconfig; print(sysconfig.get_path("purelib"))' > "$$($(HOSPITAL)/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/main.pth"
	$(HOSPITAL)/bin/python -m pip install $(PIP_QUIETLY) -r $<
	@touch $@

test-hospital: export MONAILABEL_PYTHON = .venv-monailabel/bin/python
test-hospital: $(STAMP) $(HOSPITAL_STAMP) .venv-monailabel/.requirements-installed
	PATH="$(CURDIR)/$(HOSPITAL)/bin:$$PATH" $(HOSPITAL)/bin/python -m pytest tests/hospital $(ARGS)

lint: $(STAMP)
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .
	$(VENV)/bin/codespell
	$(VENV)/bin/lint-imports --no-cache --no-logo
	$(RUN) -m mypy -p common -p tools -p benchmarks
	for bundle in bundles/*/; do \
		PYTHONPATH=$$bundle $(VENV)/bin/lint-imports --no-cache --no-logo tests/repository/bundle_imports.toml && \
		MYPYPATH=$$bundle $(RUN) -m mypy --cache-dir .mypy_cache/$$bundle -p scripts || exit 1; \
	done

clean:
	rm -rf $(VENV) $(CLIENTS:%=.venv-%) $(HOSPITAL) .pytest_cache .ruff_cache .mypy_cache
	find . -name __pycache__ -type d -not -path './.git/*' -prune -exec rm -rf {} +
