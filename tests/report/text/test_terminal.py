"""Lines for the terminal: of a report in memory, and of the same report read from its file."""

import json

import numpy as np
import pandas as pd
import pytest

from kneefair_jax import audit
from kneefair_jax.report import page
from kneefair_jax.report.text import terminal


def report(missing: int):
    """An audit of 40 patients by sex; women score 0.90, men 0.95; some cases lack the patella."""
    cases = [f"c{k:02d}" for k in range(40)]
    table = pd.DataFrame({"case_id": cases, "patient_id": cases, "sex": ["female", "male"] * 20})
    scores = table.merge(pd.DataFrame({"structure": ["femur", "patella"]}), how="cross")
    noise = np.random.default_rng(0).normal(0, 0.005, len(scores))
    scores["dice"] = np.where(scores["sex"] == "female", 0.90, 0.95) + noise
    lacks = scores["case_id"].isin(cases[:missing]) & (scores["structure"] == "patella")
    result = audit.table(scores[~lacks], ["sex"], settings=audit.Settings(draws=300))
    return next(iter(result.reports.values()))


@pytest.mark.parametrize("missing", [0, 3])
def test_the_lines_have_the_groups_the_gap_and_its_verdict(missing):
    of_memory = report(missing)
    lines = terminal.scores(of_memory).splitlines()
    rows = {
        line.split()[-5]: line.split()[-4:] for line in lines[1:4]
    }  # patients, mean, two ends of the interval
    groups = of_memory["scores"]["dice"]["groups"]
    for name in ("female", "male"):
        assert rows[name][:2] == ["20", f"{groups[f'sex={name}']['mean']:.3f}"]
    assert lines[4].startswith(
        f"gap by sex: {of_memory['scores']['dice']['summaries']['sex']['gap']['value']:.3f} ["
    )
    assert any("standardized" in line for line in lines) == (missing > 0)
    (verdict,) = [line for line in terminal.verdicts({"": of_memory}) if line.startswith("sex: ")]
    assert "significant" in verdict and "not significant" not in verdict


def test_a_report_that_is_read_from_its_file_has_the_same_lines():
    of_memory = report(3)
    of_file = json.loads(json.dumps(page.plain(of_memory)))
    assert terminal.scores(of_file) == terminal.scores(of_memory)
    assert terminal.verdicts({"": of_file}) == terminal.verdicts({"": of_memory})
