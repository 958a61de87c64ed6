"""Eight virtual CPU devices for every test, so that code for a mesh is tested on a mesh."""

import atexit
import contextlib
import math
import os
import shutil
import signal
import sys
import tempfile
from pathlib import Path

import pytest

with contextlib.suppress(ImportError):  # the environment of `make test-beam` lacks hypothesis
    from hypothesis import HealthCheck, settings

    # A busy machine fails no test.
    settings.register_profile("untimed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
    settings.load_profile("untimed")

# A shell that runs the tests in the background ignores SIGINT, and so do all processes that the tests start.
signal.signal(signal.SIGINT, signal.default_int_handler)

os.environ["JAX_NUM_CPU_DEVICES"] = "8"
os.environ.setdefault("JAX_PLATFORMS", "cpu")  # another is for the tests marked `gpu`
# LLVM's optimization of small programs took half of the tests' time.
os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} --xla_backend_optimization_level=0".lstrip()

# Many tests start the same run; a shared cache compiles it once for all workers.
if "PYTEST_XDIST_WORKER" not in os.environ:
    CACHE = tempfile.mkdtemp(prefix="kneefair_jax_tests_")
    atexit.register(shutil.rmtree, CACHE, ignore_errors=True)
    os.environ["JAX_COMPILATION_CACHE_DIR"] = CACHE
os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0.3"

# Files with slow tests. A worker that starts one last would delay the end.
LONG = frozenset(
    {
        "hostile/test_masks.py",
        "runs/test_study.py",
        "runs/test_modes.py",
        "runs/test_oai_run.py",
        "test_launch.py",
        "test_configs.py",
        "training/test_loop.py",
        "training/test_stages.py",
        "preflight/test_check.py",
        "hostile/test_geometry.py",
        "hostile/test_tables.py",
        "hostile/test_identity.py",
        "hostile/test_round_trip_commands.py",
        "data/phantom/test_phantom_switches.py",
        "evaluation/test_evaluate.py",
        "audit/test_audit_masks.py",
    }
)


def pytest_collection_modifyitems(items):
    """Run the long files first, so that the last file of every worker is short; skip the tests of Linux elsewhere."""
    folder = Path(__file__).parent
    items.sort(key=lambda item: item.path.relative_to(folder).as_posix() not in LONG)
    if sys.platform != "linux":
        for item in items:
            if item.get_closest_marker("linux"):
                item.add_marker(pytest.mark.skip(reason="uses /proc, /dev/full or prlimit"))


@pytest.fixture(scope="module")
def terminal_log():
    """Print the package's log messages, as the commands do, for tests that call its functions and read the output."""
    from kneefair_jax.runtime import command

    with command.log_to_terminal():
        yield


@pytest.fixture(autouse=True)
def no_progress_lines(request, monkeypatch):
    """Write no line of progress, which a busy machine would add to the output that a test reads."""
    from kneefair_jax.runtime import progress

    if request.module.__name__.rpartition(".")[2] != "test_progress":
        monkeypatch.setattr(progress, "PATIENCE", math.inf)


@pytest.fixture(autouse=True)
def process_signals():
    """Restore the signals' handlers and the notice: a command that a test calls in its own process changes them."""
    from kneefair_jax.runtime import preemption

    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGALRM)
    handlers = {number: signal.getsignal(number) for number in numbers}
    state = preemption._is_interrupted, preemption._has_notice
    yield
    for number, handler in handlers.items():
        signal.signal(number, handler)
    preemption._is_interrupted, preemption._has_notice = state
