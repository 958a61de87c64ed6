"""Two processes that share a run, as hosts of a cluster do, against one process with all the devices."""

import os
import subprocess
import sys

import pandas as pd
import pytest

from kneefair_jax import hosts
from kneefair_jax.errors import InputError
from tests.films import folder
from tests.test_launch import ROOT, command


def run(arguments, devices):
    environment = os.environ | {
        "JAX_NUM_CPU_DEVICES": str(devices),
        "DEVICES": str(devices),
        "PYTHON": sys.executable,
    }
    result = subprocess.run(arguments, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=240)
    assert result.returncode == 0, result.stderr
    return result.stdout


def test_two_processes_make_the_run_of_one(tmp_path):
    """By the recipe; `benchmarks/agreement.py` compares far more closely, and by pmap too."""
    python, script, *flags = command(folder(tmp_path / "films"), tmp_path / "together", steps=10)
    said = run([ROOT / "recipes/two_processes.sh", *flags], 2)
    assert said.count("step 10/10") == said.count("report:") == 1  # one of them speaks
    run([python, script, *flags, f"--workdir={tmp_path / 'alone'}"], 4)
    together, alone = (pd.read_parquet(tmp_path / name / "cases.parquet") for name in ("together", "alone"))
    pd.testing.assert_frame_equal(together, alone, atol=1e-3)


def test_what_is_missing_is_named():
    with pytest.raises(InputError, match="--process=i, i from 0 to n - 1; they are 2 and -1"):
        hosts.start("localhost:1", 2)
