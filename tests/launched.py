"""`launch.py` in the process of the tests, which has all imports and so is seconds faster than a new process."""

import contextlib
import io
import os
import signal
import subprocess
import sys
import warnings
from pathlib import Path
from unittest import mock

import pytest
from absl import logging
from absl.testing import flagsaver

from kneefair_jax.cli import launch
from kneefair_jax.runs import modes  # noqa: F401 - whose libraries define flags once, which have to stay

ROOT = Path(__file__).parents[1]


def run_in_process(command: list[str]) -> subprocess.CompletedProcess[str]:
    """Return the result of `subprocess.run(command)`, and restore flags, signals and log afterwards.

    The process of the tests has eight devices and a compilation cache. An exception that `launch.py` does not handle
    propagates.
    """
    arguments = command[1:]
    verbosity = logging.get_verbosity()
    handlers = {kind: signal.getsignal(kind) for kind in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)}
    stdout, stderr = io.StringIO(), io.StringIO()
    try:
        with (
            flagsaver.flagsaver(),  # forgets the flags that the script and the config define
            mock.patch.object(sys, "argv", arguments),  # where a config looks for its fields
            warnings.catch_warnings(),
            contextlib.chdir(ROOT),
            contextlib.redirect_stdout(stdout),
            contextlib.redirect_stderr(stderr),
            pytest.raises(SystemExit) as stop,
        ):
            warnings.filterwarnings(
                "ignore", "the load_module", DeprecationWarning
            )  # ml_collections, of a config
            launch.define_flags(arguments)
            launch.check_names(arguments)
            launch.main(launch.parse_flags(arguments))
            raise SystemExit(0)
    finally:
        for kind, handler in handlers.items():
            signal.signal(kind, handler)
        logging.set_verbosity(verbosity)
    code = stop.value.code
    return subprocess.CompletedProcess(command, code, stdout.getvalue(), stderr.getvalue())


def run_subprocess(command: list[str]) -> subprocess.CompletedProcess[str]:
    """Run the command in a new process with the machine's devices."""
    environment = {k: v for k, v in os.environ.items() if k != "JAX_NUM_CPU_DEVICES"}
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
