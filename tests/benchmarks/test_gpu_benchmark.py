"""The sections of benchmarks/gpu.sh run on the CPU, and none of them keeps another from running."""

import argparse
import json
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import device_agreement, gpu, gpu_sections

ROOT = Path(__file__).parents[2]


def result(path, name):
    return gpu.read(path)["sections"][name]


@pytest.mark.slow
def test_environment_and_trace(tmp_path):
    path = tmp_path / "gpu.json"
    assert gpu.run_section("environment", path, smoke=True, seconds=100)
    assert gpu.run_section("trace", path, smoke=True, seconds=100)
    environment = result(path, "environment")["result"]
    assert environment["platform"] == "cpu" and environment["missing"] == {}
    operations = result(path, "trace")["result"]["operations"]
    shares = [row["share"] for row in operations]
    assert shares == sorted(shares, reverse=True) and 0 < sum(shares) < 1.001
    assert any("conv" in row["name"] for row in operations)


def test_a_difference_above_its_tolerance_and_an_error_fail_the_section(tmp_path, monkeypatch):
    def fails(sizes):
        raise ValueError("no such operation")

    def differs(sizes):
        return [device_agreement.Difference("loss", float("nan"), 1.0)]

    monkeypatch.setattr(device_agreement, "COMPARISONS", {"fails": fails, "differs": differs})
    path = tmp_path / "gpu.json"
    assert not gpu.run_section("correctness", path, smoke=True, seconds=100)
    section = result(path, "correctness")
    assert section["status"] == "failed" and section["seconds"] >= 0
    assert section["result"]["differences"] == [
        {"name": "loss", "value": None, "tolerance": 1.0, "agrees": False}
    ]
    assert len(section["result"]["failures"]) == 2


def test_what_a_section_recorded_before_its_error_stays(tmp_path, monkeypatch):
    def phantoms(smoke, deadline, record):
        record({"rows": [1]})
        raise MemoryError

    monkeypatch.setattr(gpu_sections, "phantoms", phantoms)
    assert not gpu.run_section("phantoms", tmp_path / "gpu.json", smoke=True, seconds=100)
    section = result(tmp_path / "gpu.json", "phantoms")
    assert section["result"] == {"rows": [1]} and "MemoryError" in section["error"]


def test_later_sections_keep_their_time():
    chosen = ("phantoms", "trace", "train_step")
    later = gpu.SECTIONS["trace"].reserve + gpu.SECTIONS["train_step"].reserve
    assert gpu.time_limit("phantoms", chosen, later + 20) == 20
    assert gpu.time_limit("phantoms", chosen, 1000) == gpu.SECTIONS["phantoms"].most
    assert gpu.time_limit("train_step", chosen, 30) == 30


def test_a_process_that_outlasts_its_time_is_stopped(tmp_path):
    options = argparse.Namespace(out=tmp_path, titles="", smoke=True)
    assert not gpu.start_section("trace", tmp_path / "gpu.json", tmp_path / "gpu.log", tmp_path, options, 0.1)
    assert result(tmp_path / "gpu.json", "trace")["status"] == "timeout"


def test_unknown_sections_are_refused():
    assert gpu.names("train_step,trace") == ("trace", "train_step")
    with pytest.raises(argparse.ArgumentTypeError):
        gpu.names("trace,speed")


@pytest.mark.slow
def test_everything(tmp_path):
    command = ["bash", "benchmarks/gpu.sh", "--smoke", "--out", str(tmp_path)]
    subprocess.run(command, cwd=ROOT, env={"PYTHON": sys.executable, "PATH": "/usr/bin:/bin"}, check=True)
    sections = json.loads((tmp_path / "gpu.json").read_text())["sections"]
    assert {name: section["status"] for name, section in sections.items()} == dict.fromkeys(
        gpu.SECTIONS, "ok"
    )
    assert sections["pipeline"]["result"]["waiting"]["share"] > 0
    assert [row["dtype"] for row in sections["train_step"]["result"]["rows"]] == ["float32", "bfloat16"]
    assert (tmp_path / "gpu.txt").read_text().count("\n") > 20
