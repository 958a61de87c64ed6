# `make demo` and `make test` create .venv themselves; a fresh machine needs nothing else.

VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
READY := $(VENV)/.ready

# Without byte code, as some containers ask for, each process compiles all modules again, 4 s.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: bench build demo docs test test-all test-beam fuzz lint clean

demo: $(INSTALLED)
	$(BIN)/kneefair demo runs

# A source archive and a wheel, in dist/.
build: $(READY)
	@rm -rf build dist
	@if command -v uv >/dev/null; then uv build --quiet --out-dir dist; \
	else $(BIN)/python -m pip install --quiet --disable-pip-version-check build && \
		$(BIN)/python -m build --outdir dist; fi
	@ls -l dist

test: lint
	$(BIN)/python -m pytest

# Also the slow tests.
test-all: lint
	$(BIN)/python -m pytest -m "not beam and not gpu"

# Apache Beam needs a separate environment of about 1 GB, with other versions.
test-beam: .venv-beam/.ready
	.venv-beam/bin/python -m pytest -m beam tests/data/store/test_beam.py

# The documentation as a site in build/site; a warning is an error.
docs: $(VENV)/.docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict

# Ten minutes of fuzzing: readers, tables, networks and run directories.
fuzz: $(READY)
	$(BIN)/python -m benchmarks.fuzz --minutes 10

# The benchmarks that this machine can run, in less than 20 minutes on 2 cores; they generate docs/performance.md. With a
# GPU that JAX detects, also those of benchmarks/gpu.sh. Without Python 3.11 or torch, PyTorch's columns are omitted.
BENCH_MINUTES ?= 3
BENCH_ROUNDS ?= 2
TORCH := .venv-torch/bin/python

bench: $(READY)
	@$(MAKE) --no-print-directory .venv-torch/.ready \
		|| echo "Creating an environment with PyTorch failed; its columns are omitted."
	-@if $(BIN)/python -c 'import jax, sys; sys.exit(jax.default_backend() != "gpu")'; then \
		PYTHON=$(BIN)/python bash benchmarks/gpu.sh; fi
	@torch=$$(test -e .venv-torch/.ready && echo --torch_python=$(TORCH)); export JAX_PLATFORMS=cpu; status=0; \
	run() { echo "== $$*"; $(BIN)/python -m "benchmarks.$$@" || status=1; }; \
	run train_step $$torch --minutes $(BENCH_MINUTES) --rounds $(BENCH_ROUNDS); \
	run cpu_attempts $$torch --rounds $(BENCH_ROUNDS); \
	run bootstrap --rounds $(BENCH_ROUNDS) --fairlearn_draws 20; \
	run phantom --rounds $(BENCH_ROUNDS); \
	run pipeline $$torch --rounds $(BENCH_ROUNDS); \
	run vmapped --rounds $(BENCH_ROUNDS); \
	run time_to_quality $$torch --seeds 0 --sides kneefair_jax,pytorch; \
	run performance_page; \
	exit $$status

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

clean:
	rm -rf $(VENV) .venv-beam .venv-torch runs build dist

# $(call install,EXTRA,OTHER CONSTRAINTS): uv if it is installed, else pip. The versions are those of constraints.txt,
# which the tests passed with.
install = constraints="$(foreach file,constraints.txt $(2),--constraint $(file))"; \
	if command -v uv >/dev/null; then \
		uv pip install --quiet --python $(BIN)/python $$constraints --editable '.$(1)'; \
	else \
		$(BIN)/python -m pip install --quiet --disable-pip-version-check $$constraints --editable '.$(1)'; \
	fi

# What users need.
$(INSTALLED): pyproject.toml constraints.txt
	@echo "Installing kneefair_jax and its dependencies into $(VENV), one to three minutes"
	@if command -v uv >/dev/null; then \
		uv venv --quiet --allow-existing --python 3.12 $(VENV); \
	else \
		python=$$(command -v python3.12 || command -v python3) && \
		{ $$python -c 'import sys; sys.exit(sys.version_info < (3, 12))' \
			|| { echo "Python 3.12 or newer is needed; $$($$python --version) was found"; exit 1; }; } && \
		$$python -m venv $(VENV); \
	fi
	@$(call install)
	@touch $@

# Also what the tests need.
$(READY): $(INSTALLED)
	@echo "Installing the tools of the tests into $(VENV)"
	@$(call install,[dev])
	@touch $@

$(VENV)/.docs: $(READY) constraints-docs.txt
	@$(call install,[docs],constraints-docs.txt)
	@touch $@

.venv-beam/.ready: pyproject.toml constraints-beam.txt
	@if command -v uv >/dev/null; then \
		uv venv --quiet --allow-existing --python 3.12 .venv-beam && \
		uv pip install --quiet --python .venv-beam/bin/python --constraints constraints-beam.txt \
			--editable '.[beam]' pytest pytest-xdist; \
	else \
		$$(command -v python3.12 || command -v python3) -m venv .venv-beam && \
		.venv-beam/bin/python -m pip install --quiet --disable-pip-version-check \
			--constraint constraints-beam.txt --editable '.[beam]' pytest pytest-xdist; \
	fi
	@touch $@

# PyTorch, for comparison, has a separate environment.
.venv-torch/.ready:
	@if command -v uv >/dev/null; then \
		uv venv --quiet --allow-existing --python 3.11 .venv-torch && \
		uv pip install --quiet --python $(TORCH) torch==2.13.0 numpy safetensors; \
	else \
		python3.11 -m venv .venv-torch && \
		$(TORCH) -m pip install --quiet --disable-pip-version-check torch==2.13.0 numpy safetensors; \
	fi
	@touch $@
