"""Two processes that share a run, as hosts of a cluster do, against one process with all the devices."""

import os
import socket
import subprocess

import pandas as pd
import pytest

from kneefair_jax import hosts
from kneefair_jax.errors import InputError
from tests.films import folder
from tests.test_launch import ROOT, command


def start(films, workdir, devices, *extra):
    environment = os.environ | {"JAX_NUM_CPU_DEVICES": str(devices)}
    return subprocess.Popen(
        command(films, workdir, *extra, steps=10),
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def done(process):
    out, err = process.communicate(timeout=240)
    assert process.returncode == 0, err
    return out


@pytest.fixture(scope="module")
def films(tmp_path_factory):
    return folder(tmp_path_factory.mktemp("films") / "f")


@pytest.fixture(scope="module")
def alone(films, tmp_path_factory):
    workdir = tmp_path_factory.mktemp("runs") / "alone"
    done(start(films, workdir, 4))
    return pd.read_parquet(workdir / "cases.parquet")


@pytest.mark.parametrize("parallel", ["jit", "pmap"])
def test_two_processes_make_the_run_of_one(parallel, films, alone, tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    flags = (f"--config.parallel={parallel}", f"--coordinator={address}", "--processes=2")
    both = [start(films, tmp_path, 2, *flags, f"--process={i}") for i in range(2)]
    first, second = map(done, both)
    assert "report:" in first and "step 10/10" in first
    assert "step" not in second  # one of them speaks
    together = pd.read_parquet(tmp_path / "cases.parquet")
    pd.testing.assert_frame_equal(together, alone, atol=1e-3)


def test_what_is_missing_is_named():
    with pytest.raises(InputError, match="--process=i, i from 0 to n - 1; they are 2 and -1"):
        hosts.start("localhost:1", 2)
