"""Models side by side: the gaps in the table, and the changes between them."""

import copy

import numpy as np
import pandas as pd
import pytest

from kneefair_jax import audit
from kneefair_jax.fairness import family
from kneefair_jax.report.text import cards, models

SEX = np.array(["female", "male"] * 12)


def scores(shift, failed, seed=0):
    """Scores of 24 patients; those of female patients are `shift` lower, and the first `failed` of them fail."""
    dice = np.where(SEX == "female", 0.9 - shift, 0.9) + np.random.default_rng(seed).normal(0, 0.01, 24)
    dice[np.flatnonzero(SEX == "female")[:failed]] = 0.1
    ids = [f"p{k}" for k in range(24)]
    return pd.DataFrame({"case_id": ids, "patient_id": ids, "sex": SEX, "dice": dice})


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    path = tmp_path_factory.mktemp("audit") / "scores.csv"
    tables = {"a": scores(0.06, failed=0), "b": scores(0.0, failed=1, seed=1)}
    pd.concat([table.assign(model=model) for model, table in tables.items()]).to_csv(path, index=False)
    settings = audit.Settings(draws=200, min_group_patients=5)
    return audit.table(path, ["sex"], settings=settings).report


def test_a_change_is_the_difference_of_the_gaps_shown(report):
    first, second = (row.gaps["sex"] for row in models.rows(report))
    (pair,) = report["models"]["pairs"]
    assert second.value - first.value == pytest.approx(pair["change_of_gap"]["value"])
    assert second.change == models.signed(pair["change_of_gap"]["value"]) and first.change == ""


def test_significance_is_that_of_the_gap_without_failures(report):
    first, second = (row.gaps["sex"] for row in models.rows(report))
    assert first.is_significant and not second.is_significant
    assert second.value > 0.04  # by the failed segmentation


def test_the_headline_has_one_line_on_the_mean_and_one_on_the_gaps(report):
    mean, gaps = models.headline(report)
    (pair,) = report["models"]["pairs"]
    assert (mean.startswith("b ") and "than a" in mean) or "from a" in mean
    assert models.number(abs(pair["change_of_mean"]["value"])) in mean
    assert "gap" in gaps and "p =" not in gaps and pair["change_of_gap"]["p_holm"] >= 0.05


def with_pairs(report, *pairs):
    return report | {"models": report["models"] | {"order": ["a", "b", "c"], "pairs": list(pairs)}}


def test_three_models_are_compared_with_the_first(report):
    (pair,) = report["models"]["pairs"]
    narrower = {"value": -0.034, "interval": [-0.05, -0.01], "p": 0.001, "p_holm": 0.002}
    changed = with_pairs(
        report,
        pair | {"change_of_gap": pair["change_of_gap"] | narrower},
        pair | {"second": "c"},
        pair | {"first": "b", "second": "c"},
    )
    mean, gaps = models.headline(changed)
    assert mean.count(";") == 1 and "c " in mean
    first, rest = gaps.split("; ")
    assert all(word in first for word in ("sex gap of b", "0.034 smaller", "of a", "p = 0.002"))
    assert rest.startswith("no other gap")


def test_a_significant_change_between_later_models_is_stated(report):
    (pair,) = report["models"]["pairs"]
    lower = {"value": -0.05, "interval": [-0.06, -0.04], "p": 0.0004, "p_holm": 0.001}
    changed = with_pairs(
        report,
        pair | {"first": "b", "second": "c", "change_of_mean": lower, "change_of_gap": lower},
        pair,
        pair | {"second": "c"},
    )
    mean, gaps = models.headline(changed)
    *from_first, between = mean.split("; ")
    assert [text[0] for text in from_first] == ["b", "c"] and all("from a" in text for text in from_first)
    assert between.startswith("c has a 0.050 lower") and "than b (p = 0.001)" in between
    assert gaps.startswith("The sex gap of c is 0.050 smaller than that of b (p = 0.001); no other gap")


def test_models_without_a_pair_have_no_headline(report):
    assert models.headline(with_pairs(report)) == []


def test_significant_gaps_are_of_each_model(report):
    gaps = models.significant_gaps(report)
    assert gaps.startswith("a: Dice 0.0") and gaps.index("a:") < gaps.index("b: no significant gap")
    assert "lower in female than in male (p" in gaps


def test_the_gap_without_failures_has_a_name_of_its_own(report):
    entry = report["models"]["summaries"]["b"]["attributes"]["sex"]
    assert entry["gap_without_failures"] < 0.02 < 0.04 < entry["gap"]
    assert entry["gap"] == pytest.approx(report["models"]["pairs"][0]["change_of_gap"]["second"])


def test_every_model_has_the_results_of_its_cards(report):
    first, second = (row.gaps["sex"] for row in models.rows(report))
    assert first.result == "significant" and cards.cards(report)[0].verdict.endswith(", significant")
    assert second.result == "not significant without failures"
    entry = report["models"]["summaries"]["a"]["attributes"]["sex"]
    assert entry["verdict"] == f"Gap {models.number(entry['gap_without_failures'])}, {entry['result']}"


def test_a_mean_difference_without_a_test_gets_no_verdict(report):
    constant = copy.deepcopy(report)
    (pair,) = constant["models"]["pairs"]
    pair["change_of_mean"] |= {"interval": [pair["change_of_mean"]["value"]] * 2, "p": None, "p_holm": None}
    change, _ = models.headline(constant)
    assert "not tested" in change and "differ significantly" not in change


def test_another_primary_score_has_its_own_changes_and_its_highest_group_as_the_worst():
    rng = np.random.default_rng(0)
    race = np.repeat(["A", "B"], 12)
    tables = []
    for model, shift in (("a", 3.0), ("b", 1.0)):
        distances = rng.gamma(4, 0.5, 24) + shift * (SEX == "female")
        tables.append(scores(0.01, failed=0).assign(model=model, hd95_mm=distances, race=race))
    settings = audit.Settings(draws=200, min_group_patients=5, primary=family.Primary("hd95_mm"))
    audited = audit.table(pd.concat(tables), ["sex", "race"], settings=settings).report
    first, second = (table.groupby("sex")["hd95_mm"].mean() for table in tables)
    pair = next(pair for pair in audited["models"]["pairs"] if pair["attribute"] == "sex")
    assert audited["models"]["score"] == "hd95_mm"
    assert pair["change_of_mean"]["value"] == pytest.approx((second - first).mean())
    assert pair["change_of_gap"]["first"] == pytest.approx(first["female"] - first["male"])
    assert pair["change_of_gap"]["second"] == pytest.approx(abs(second["female"] - second["male"]))
    row = models.rows(audited)[0]
    assert row.worst == f"sex female {models.number(first['female'])}"
    mean, _ = models.headline(audited)
    assert "lower mean HD95 (mm) than a (lower is better)" in mean
