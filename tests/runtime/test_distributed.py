"""Two processes that share a run, as hosts of a cluster do, against one process with all the devices."""

import os
import socket
import subprocess
import sys

import pandas as pd
import pytest

from kneefair_jax.errors import InputError
from kneefair_jax.runtime import distributed, run_directory
from tests.films import folder
from tests.launched import run_in_process
from tests.test_launch import ROOT, command


@pytest.mark.slow
def test_two_processes_make_the_run_of_one(tmp_path):
    """By the recipe; `benchmarks/agreement.py` compares far more closely, and by pmap too."""
    single = command(folder(tmp_path / "films"), tmp_path / "single", steps=10)
    assert run_in_process(single).returncode == 0
    pair = subprocess.run(
        [ROOT / "recipes/two_processes.sh", *single[2:], f"--workdir={tmp_path / 'pair'}"],
        cwd=ROOT,
        env=os.environ | {"DEVICES": "4", "PYTHON": sys.executable},
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert pair.returncode == 0, pair.stderr
    assert pair.stdout.count("step 10/10") == pair.stdout.count("report:") == 1  # only one of them prints
    tables = (pd.read_parquet(tmp_path / name / "cases.parquet") for name in ("pair", "single"))
    pd.testing.assert_frame_equal(*tables, atol=1e-3)


def start_two(arguments):
    """Start two processes of `launch.py`, with a device each; their output can be read as it comes."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = os.environ | {"JAX_NUM_CPU_DEVICES": "1"}
    return [
        subprocess.Popen(
            [*arguments, f"--coordinator=127.0.0.1:{port}", "--processes=2", f"--process={process}"],
            cwd=ROOT,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for process in (0, 1)
    ]


def preempt(processes, line, targets):
    """Send SIGTERM to some processes after the first has printed a line; return all exit statuses."""
    assert any(line in output for output in processes[0].stdout)
    for process in targets:
        processes[process].terminate()
    outputs = [process.communicate(timeout=240)[0] for process in processes]
    assert all("preempted; the same command" in text for text in outputs), outputs
    return [process.returncode for process in processes]


@pytest.mark.slow
def test_a_notice_to_one_host_stops_all_of_them_at_any_moment(tmp_path):
    arguments = command(folder(tmp_path / "films"), tmp_path / "run", steps=4000)
    assert preempt(start_two(arguments), "/4000  loss", targets=[1]) == [75, 75]
    assert any((tmp_path / "run" / "checkpoints").iterdir())
    # Before the first step of a run that goes on: its steps do not begin at 1.
    assert preempt(start_two(arguments), "continuing from step", targets=[0, 1]) == [75, 75]


def test_what_the_first_host_refuses_all_refuse(tmp_path):
    run = tmp_path / "run"
    with run_directory.exclusive_lock(run):
        processes = start_two(command(folder(tmp_path / "films"), run))
        outputs = [process.communicate(timeout=240)[0] for process in processes]
    assert [process.returncode for process in processes] == [2, 2], outputs
    assert all("error: " in text and "Traceback" not in text for text in outputs)


def test_what_is_missing_is_named():
    with pytest.raises(InputError, match="--process=i, from 0 to n - 1; they are 2 and -1"):
        distributed.start("localhost:1", 2)


@pytest.mark.parametrize(
    ("coordinator", "processes", "process"),
    [
        ("localhost", 2, 1),
        ("localhost:0", 2, 1),
        ("localhost:99999", 2, 1),
        ("localhost:x", 2, 1),
        (":1234", 2, 1),
        ("localhost:1234", 2, -7),
        ("localhost:1234", 10**9, 1),
    ],
)
def test_what_is_no_address_of_a_process_is_refused(coordinator, processes, process):
    with pytest.raises(InputError, match=f"--coordinator={coordinator}"):
        distributed.start(coordinator, processes, process)


def test_a_coordinator_that_does_not_answer_is_refused_in_time(monkeypatch, caplog):
    caplog.set_level("INFO", "kneefair_jax")
    monkeypatch.setattr(distributed, "_CONNECT_TIMEOUT", 0.2)
    with pytest.raises(InputError, match=r"127\.0\.0\.1:9 does not answer"):
        distributed.start("127.0.0.1:9", 2, 1)
    assert "waiting up to 0.2 s for the coordinator 127.0.0.1:9" in caplog.text
