"""The benchmark runs, and its cohorts are what it says."""

import json
import sys

import numpy as np
import pytest

from benchmarks import calibration


def condition(name):
    return next(one for one in calibration.CONDITIONS if one.name == name)


@pytest.mark.parametrize("name", ["60-15 normal doubled", "60-15 skewed doubled"])
def test_knees_are_paired_and_groups_are_equal(name):
    drawn = calibration.knees(condition(name), 4000, np.random.default_rng(0))
    large, small = drawn[:, :60].reshape(-1, 2), drawn[:, 60:].reshape(-1, 2)
    for knees, sd in ((large, 0.03), (small, 0.06)):
        assert knees.mean() == pytest.approx(0.08, abs=1e-3)
        assert knees.std() == pytest.approx(sd, rel=0.03)
        assert np.corrcoef(knees.T)[0, 1] == pytest.approx(0.5, abs=0.04)


def test_shares(tmp_path, monkeypatch):
    out = tmp_path / "calibration.json"
    out.write_text(json.dumps({"conditions": {"200-60 normal equal": "kept"}}))
    arguments = ["--cohorts", "30", "--draws", "99", "--permutations", "99", "--jobs", "1", "--only"]
    chosen = ["60-15 normal equal", "60-60-60-15-15-15 normal equal"]
    monkeypatch.setattr(sys, "argv", ["calibration.py", "--out", str(out), *arguments, *chosen])
    monkeypatch.setattr(calibration, "ProcessPoolExecutor", Serial)
    calibration.main()
    found = json.loads(out.read_text())
    assert set(found["conditions"]) == {*chosen, "200-60 normal equal"}
    assert found["hardware"]["cores"] and found["conditions"]["200-60 normal equal"] == "kept"
    two, six = (found["conditions"][name]["share"] for name in chosen)
    assert two["gap covers"] > 0.8 and two["test rejects"] < 0.2
    assert two["naive: SER of equal groups, percentile, covers"] == 0
    assert six["max - min covers, equal"] > 0.8 and six["naive: max - min, percentile, covers, equal"] == 0


class Serial:
    """The pool, without its processes."""

    def __init__(self, jobs):
        assert jobs == 1

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    map = staticmethod(map)
