"""Every statistic is of the same macro scores, whatever the threshold of failures, where cases lack structures."""

import numpy as np
import pandas as pd
import pytest

from kneefair_jax import groups
from kneefair_jax.fairness import adjusted_model, model_comparison, scores, small_groups

STRUCTURES = ("femur", "fibula")
FAILURE_DICE = 0.8


@pytest.fixture(scope="module")
def cases():
    """One case a patient, 20 women and 14 men; the fibula of some is missing, and Dice below 0.8 counts as failed."""
    rng = np.random.default_rng(4)
    rows = []
    for p in range(34):
        sex = "f" if p < 20 else "m"
        dice = dict(zip(STRUCTURES, rng.normal((0.95, 0.88), 0.015), strict=True))
        if p % 4 == 1:
            dice["fibula"] = np.nan
        if p in (2, 4, 22):
            dice["fibula"] = 0.6  # failed at 0.8, and not at 0.5
        rows += [
            {"case_id": f"c{p:02d}", "patient_id": f"p{p:02d}", "sex": sex, "structure": name, "dice": value}
            for name, value in dice.items()
        ]
    frame = pd.DataFrame(rows).assign(true_area_mm2=np.nan)
    frame["sex"] = groups.categorical(frame["sex"])
    return frame


@pytest.fixture(scope="module")
def summary(cases):
    result = scores.scores(
        cases, STRUCTURES, ("sex",), min_group_patients=5, draws=99, seed=0, failure_dice=FAILURE_DICE
    )
    return result["dice"]["summaries"]["sex"]


def test_the_threshold_changes_what_a_missing_structure_would_score(cases, summary):
    second_result = scores.scores(cases, STRUCTURES, ("sex",), min_group_patients=5, draws=99, seed=0)
    assert summary["gap"]["value"] != pytest.approx(second_result["dice"]["summaries"]["sex"]["gap"]["value"])


def test_adjusted_and_pooled_means_are_those_of_the_gap_without_failures(cases, summary):
    difference = summary["pairs"][0]["difference"]
    cohort = cases.drop_duplicates("case_id")[["case_id", "patient_id", "sex"]]
    model = adjusted_model.models(cases, cohort, ["sex"], failure_dice=FAILURE_DICE)["dice"]
    (contrast,) = model.without_mediators.contrasts
    assert contrast.estimate == pytest.approx(-difference)  # male minus female
    pooled = small_groups.pool_small_groups(cases, STRUCTURES, ["sex"], "dice", failure_dice=FAILURE_DICE)
    assert pooled["sex=f"].raw - pooled["sex=m"].raw == pytest.approx(difference)


def test_the_gap_of_compared_models_is_that_of_their_tables(cases, summary):
    models = {"a": cases, "b": cases.assign(dice=cases["dice"] - 0.01)}
    result = model_comparison.compare_models(
        models, ["sex"], min_group_patients=5, draws=99, failure_dice=FAILURE_DICE
    )
    assert result.pairs[0].change_of_gap.first == pytest.approx(summary["gap"]["value"])
