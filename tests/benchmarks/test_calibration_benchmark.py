"""The benchmark runs, and its cohorts are what it says."""

import json
import sys

import numpy as np
import pytest

from benchmarks import calibration


def condition(name):
    return next(one for one in calibration.CONDITIONS if one.name == name)


@pytest.mark.parametrize("shape", ["normal", "skewed"])
def test_knees_are_paired_and_groups_are_equal(shape):
    drawn = calibration.knees(
        condition(f"60-15 {shape} doubled, failures 0 %"), 4000, np.random.default_rng(0)
    )
    large, small = drawn[:, :60].reshape(-1, 2), drawn[:, 60:].reshape(-1, 2)
    for knees, sd in ((large, 0.03), (small, 0.06)):
        assert knees.mean() == pytest.approx(0.08, abs=1e-3)
        assert knees.std() == pytest.approx(sd, rel=0.03)
        assert np.corrcoef(knees.T)[0, 1] == pytest.approx(0.5, abs=0.04)


def test_failures_have_the_stated_share_and_mean():
    chosen = condition("60-15 beta equal, failures 0 and 5 %")
    drawn = calibration.knees(chosen, 4000, np.random.default_rng(0))
    failed = (drawn == 1).any(2)
    assert failed[:, :60].sum() == 0 and failed[:, 60:].mean() == pytest.approx(0.05, abs=0.004)
    means = [1 - drawn[:, :60].mean(), 1 - drawn[:, 60:].mean()]
    assert means == pytest.approx(chosen.truth.tolist(), abs=2e-3)


def test_shares(tmp_path, monkeypatch):
    out = tmp_path / "calibration.json"
    out.write_text(json.dumps({"conditions": {"another": "kept"}}))
    arguments = ["--cohorts", "30", "--permutations", "99", "--jobs", "1", "--only"]
    chosen = ["60-15 normal equal, failures 0 %", "30-30 beta equal, failures 5 %"]
    monkeypatch.setattr(sys, "argv", ["calibration.py", "--out", str(out), *arguments, *chosen])
    monkeypatch.setattr(calibration, "ProcessPoolExecutor", Serial)
    calibration.main()
    results = json.loads(out.read_text())
    assert set(results["conditions"]) == {*chosen, "another"}
    assert results["hardware"]["cores"] and results["conditions"]["another"] == "kept"
    sound, failing = (results["conditions"][name] for name in chosen)
    assert sound["share"]["gap covers"] > 0.8 and sound["share"]["test rejects"] < 0.2
    assert sound["share"]["test and interval disagree"] == failing["share"]["test and interval disagree"] == 0
    assert failing["share"]["last mean covers"] > 0.9
    assert failing["share"]["naive: Student's t of the last mean covers"] < 0.95
    width, reference = failing["median"].values()
    assert width < 1.2 * reference


class Serial:
    """The pool, without its processes."""

    def __init__(self, jobs):
        assert jobs == 1

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    map = staticmethod(map)
