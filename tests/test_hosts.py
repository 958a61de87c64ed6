"""Two processes that share a run, as hosts of a cluster do, against one process with all the devices."""

import os
import subprocess
import sys

import pandas as pd
import pytest

from kneefair_jax import hosts
from kneefair_jax.errors import InputError
from tests.films import folder
from tests.launched import here
from tests.test_launch import ROOT, command


def test_two_processes_make_the_run_of_one(tmp_path):
    """By the recipe; `benchmarks/agreement.py` compares far more closely, and by pmap too."""
    alone = command(folder(tmp_path / "films"), tmp_path / "alone", steps=10)
    assert here(alone).returncode == 0
    together = subprocess.run(
        [ROOT / "recipes/two_processes.sh", *alone[2:], f"--workdir={tmp_path / 'together'}"],
        cwd=ROOT,
        env=os.environ | {"DEVICES": "4", "PYTHON": sys.executable},
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert together.returncode == 0, together.stderr
    assert together.stdout.count("step 10/10") == together.stdout.count("report:") == 1  # one of them speaks
    tables = (pd.read_parquet(tmp_path / name / "cases.parquet") for name in ("together", "alone"))
    pd.testing.assert_frame_equal(*tables, atol=1e-3)


def test_what_is_missing_is_named():
    with pytest.raises(InputError, match="--process=i, i from 0 to n - 1; they are 2 and -1"):
        hosts.start("localhost:1", 2)
