"""The benchmark runs, and its cohorts are what it says."""

import json
import sys

import numpy as np
import pytest

from benchmarks import calibration


def condition(name):
    return next(one for one in calibration.CONDITIONS if one.name == name)


def drawn(chosen, cohorts=600):
    """Patients' mean scores and failures of many cohorts, a row a cohort."""
    rng = np.random.default_rng(0)
    scores, failed = zip(*(calibration.knees(chosen, rng) for _ in range(cohorts)), strict=True)
    return np.array(scores), np.array(failed)


@pytest.mark.parametrize("shape", ["normal", "skewed", "t3"])
def test_knees_are_paired_and_groups_are_equal(shape):
    scores, failed = drawn(condition(f"60-15 {shape} doubled, failures 0 %"))
    assert not failed.any()
    for patients, sd in ((scores[:, :60], 0.03), (scores[:, 60:], 0.06)):
        assert patients.mean() == pytest.approx(0.92, abs=2e-3)
        # Of the mean of two knees that correlate by 0.5.
        assert patients.std() == pytest.approx(sd * np.sqrt(0.75), rel=0.15 if shape == "t3" else 0.04)


@pytest.mark.parametrize("varied", [False, True])
def test_failures_have_the_stated_share_and_mean(varied):
    chosen = condition("60-15 beta equal, failures 0 and 5 %")._replace(varied=varied)
    scores, failed = drawn(chosen)
    assert failed[:, :60].sum() == 0 and failed[:, 60:].mean() == pytest.approx(0.05, abs=0.006)
    means = [scores[:, :60].mean(), scores[:, 60:].mean()]
    assert means == pytest.approx(chosen.truth.tolist(), abs=3e-3)
    kept = scores[:, 60:][~failed[:, 60:]].mean()
    assert kept == pytest.approx(chosen.centers[1], abs=2e-3)


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

    def __init__(self, jobs, context):
        assert jobs == 1

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    map = staticmethod(map)
