# make sweep         installs into .venv and runs the default sweep (ARGS="…" adds to its command line)
# make test          the same environment with the test extra, then the quick tests
# make test-slow     the tests that take minutes
# make test-cluster  the tests on machines made of Linux namespaces (root, iproute2, openssh-server, rsync)
# make faults        sweeps that are disturbed on purpose, by seeds: SEEDS=0:200, so many at once: JOBS=2
# make faults-ray    the same on Ray: SEEDS=0:30
# make faults-disk  a full disk at every kind of write
# make soak          INLINE=300 and RAY=40 sweeps in a row, after which nothing may have grown
# make fuzz          changed files and words for every reader, FUZZ_SECONDS=60 each; FUZZ_SEED=N repeats a run
# make audit         asks whether a package of constraints.txt has a known weakness (installs pip-audit)
# make gpu-check     what a GPU makes of training: tests, speed, waits, memory, runs that share it (9 minutes)
# make coverage      the quick tests, and the share of the code that they run; fails below pyproject.toml's floor
# make lint          ruff and mypy
# make clean         removes .venv and caches; the sweeps in runs/ stay
# make distclean     that, and after a question the sweeps in runs/
# make help          these lines
# ARGS="…" goes to pytest, too; PYTHON=… is what makes .venv.
PYTHON ?= python3.11
VENV   := .venv
RUN    := $(VENV)/bin/python
ARGS   ?=
JOBS   ?= 2
INLINE ?= 300
RAY    ?= 40

.PHONY: sweep test test-slow test-cluster faults faults-ray faults-disk soak fuzz audit gpu-check
.PHONY: coverage lint clean distclean help

sweep: $(VENV)/.installed
	$(RUN) -m orchestrator.sweep $(ARGS)

# Whole files go to one process or the other: tests of a file share what is dear to make. The order is random;
# its seed is printed first, and ARGS=--randomly-seed=N repeats it.
test: $(VENV)/.installed-test
	$(RUN) -m pytest -n 2 --dist loadfile $(ARGS)

test-slow: $(VENV)/.installed-test
	$(RUN) -m pytest -m slow $(ARGS)

# In their order: each leaves the cluster well for the next.
test-cluster: $(VENV)/.installed-test
	$(RUN) -m pytest -m cluster -p no:randomly $(ARGS)

faults: SEEDS ?= 0:200
faults: $(VENV)/.installed-test
	$(RUN) -m tests.faults --seeds $(SEEDS) --jobs $(JOBS) $(ARGS)

faults-ray: SEEDS ?= 0:30
faults-ray: $(VENV)/.installed-test
	$(RUN) -m tests.faults --ray --seeds $(SEEDS) --jobs $(JOBS) $(ARGS)

faults-disk: $(VENV)/.installed-test
	$(RUN) -m tests.faults --full-disk --jobs $(JOBS) $(ARGS)

soak: $(VENV)/.installed-test
	$(RUN) -m tests.faults.soak --inline $(INLINE) --ray $(RAY)

fuzz: $(VENV)/.installed-test
	$(RUN) -m pytest -m fuzz -rP tests/fuzz $(ARGS)

audit: $(VENV)/.installed
	$(RUN) -m pip install --quiet pip-audit
	$(RUN) -m pip_audit --requirement constraints.txt --no-deps --disable-pip --strict $(ARGS)

gpu-check: $(VENV)/.installed-test
	$(RUN) -m benchmarks.gpu_check --output gpu_check.json $(ARGS)

coverage: $(VENV)/.installed-test
	$(RUN) -m pytest -n 2 --dist loadfile --cov $(ARGS)

lint: $(VENV)/.installed-test
	$(RUN) -m ruff check . && $(RUN) -m ruff format --check . && $(RUN) -m mypy

# The stamps make a second call install nothing; a changed project file installs again.
$(VENV)/.installed: pyproject.toml constraints.txt
	test -x $(RUN) || $(PYTHON) -m venv $(VENV) || python3 -m venv $(VENV)
	$(RUN) -m pip install --quiet --constraint constraints.txt --editable .
	touch $@

$(VENV)/.installed-test: $(VENV)/.installed
	$(RUN) -m pip install --quiet --constraint constraints.txt --editable ".[test]"
	touch $@

clean:
	rm -rf $(VENV) build *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis .coverage .coverage.*
	find orchestrator search_spaces trainables tests cluster benchmarks -name __pycache__ -prune -exec rm -rf {} +

distclean: clean
	@printf 'Remove every sweep in runs/ for good? [y/N] '; read -r answer; test "$$answer" = y && rm -rf runs || echo 'runs/ stays.'

help:
	@sed -n 's/^# \(make .*\)/\1/p' Makefile
