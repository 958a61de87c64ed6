import numpy as np
import pandas as pd
import pytest
from scipy import stats

from kneefair_jax import groups, metrics
from kneefair_jax.fairness import reference_ser, scores

SIZE = 160


def bone(length):
    """An ellipse, 24 x 12 mm at length 1, on a grid of 0.4 mm."""
    y, x = (np.mgrid[:SIZE, :SIZE] - SIZE / 2) * 0.4
    return ((y / (24 * length)) ** 2 + (x / (12 * length)) ** 2 < 1).astype(np.uint8)


def test_bones_a_tenth_smaller():
    """METHODS: about 1.10-1.11."""
    lengths = np.random.default_rng(0).normal(1, 0.03, 24)
    small = np.arange(24) % 3 == 0
    lengths = np.where(small, 0.9 * lengths, lengths)
    errors = [metrics.boundary_errors(bone(length), 1, (0.4, 0.4), 0.8) for length in lengths]
    for score, least, most in [("dice", 1.08, 1.13), ("iou", 1.07, 1.13)]:
        macro = np.concatenate([error[score] for error in errors])
        ser = reference_ser.expected_ser(macro, np.arange(24), small.astype(np.int32), 0, 1)
        assert least < ser < most


def table(errors, patients, sexes):
    """The long table of cases of one structure."""
    return pd.DataFrame(
        {
            "case_id": [f"c{k}" for k in range(len(errors))],
            "patient_id": patients,
            "structure": "femur",
            "sex": groups.categorical(pd.Series(sexes)),
            "dice": 1 - np.array(errors),
            "iou": 0.5,
        }
    )


def test_by_hand_over_patients_and_only_ranked_groups():
    cases = table(
        [0.1, 0.1, 0.1, 0.2, 0.2, 0.1, 0.1],
        ["p", "p", "q", "r", "s", "t", "t"],
        ["f", "f", "f", "m", "m", "x", "x"],
    )
    report = scores.scores(cases, ["femur"], ["sex"], min_group_patients=2, draws=40, seed=0)
    errors = np.array([0.2, 0.4, 0.2, 0.6, 0.4, 0.9, 0.9])[:, None]
    reference_ser.add_expected_ser(report, {"dice": errors}, cases, cases, ("sex",))
    # f: p (.2 + .4) / 2, q .2; m: .6 and .4; x, one patient, is not ranked.
    np.testing.assert_allclose(report["dice"]["summaries"]["sex"]["ser"]["size"], 0.5 / 0.25)
    assert report["iou"]["summaries"]["sex"]["ser"]["size"] is None
    # Where size would put the other group last, the ratio says so.
    reference_ser.add_expected_ser(report, {"dice": errors[[3, 3, 4, 0, 2, 5, 6]]}, cases, cases, ("sex",))
    np.testing.assert_allclose(report["dice"]["summaries"]["sex"]["ser"]["size"], 0.2 / 0.5)


def test_undefined():
    patients, index = np.arange(4), np.array([0, 0, 1, 1], np.int32)
    some = np.array([0.1, 0.2, np.nan, np.nan])
    assert reference_ser.expected_ser(some, patients, index, 0, 1) is None
    zero = np.array([0.0, 0.0, 0.1, 0.1])
    assert reference_ser.expected_ser(zero, patients, index, 0, 1) is None


def test_the_interval_is_that_of_the_delta_method_by_hand():
    observed = np.array([0.04, 0.05, 0.06, 0.05, 0.05, 0.09, 0.12, 0.08, 0.11, 0.1])
    expected = np.array([0.05, 0.05, 0.06, 0.04, 0.05, 0.06, 0.06, 0.06, 0.06, 0.06])
    index = np.repeat([1, 0], 5)
    result = reference_ser.beyond_size(observed, expected, index, ("sex=f", "sex=m"))
    assert (result.best, result.worst) == ("sex=m", "sex=f")
    assert result.observed == pytest.approx(2) and result.expected == pytest.approx(1.2)
    assert result.value == pytest.approx(2 / 1.2) and result.patients == {"sex=m": 5, "sex=f": 5}
    # Deviations -.2, 0, 0, .2, 0 of the men, their variance .02; -.1, .2, -.2, .1, 0 of the women, .025.
    error, freedom = np.sqrt(0.045 / 5), 0.045**2 / ((0.02**2 + 0.025**2) / 4)
    ends = np.log(2 / 1.2) + stats.t.ppf([0.025, 0.975], freedom) * error
    np.testing.assert_allclose(np.log(result.interval), ends)


def test_the_interval_is_simultaneous_over_the_pairs_of_more_groups():
    rng = np.random.default_rng(0)
    observed = np.concatenate([rng.uniform(0.04, 0.06, 20), rng.uniform(0.05, 0.07, 40)])
    expected, index = np.full(60, 0.05), np.repeat([0, 1, 2], 20)
    three = reference_ser.beyond_size(observed, expected, index, ("a", "b", "c"))
    best, worst = (("a", "b", "c").index(name) for name in (three.best, three.worst))
    group_errors = np.isin(index, (best, worst))
    two = reference_ser.beyond_size(
        observed[group_errors], expected[group_errors], index[group_errors], ("a", "b", "c")
    )
    assert three.value == two.value
    assert three.interval[0] < two.interval[0] < two.interval[1] < three.interval[1]


def test_no_interval_of_few_patients_and_no_ratio_of_no_error():
    index = np.array([0, 0, 0, 0, 1, 1, 1, 1, 1])
    errors = np.linspace(0.05, 0.1, 9)
    result = reference_ser.beyond_size(errors, errors, index, ("a", "b"))
    assert result.value == pytest.approx(1) and result.interval is None
    assert reference_ser.beyond_size(np.zeros(9), errors, index, ("a", "b")) is None
    assert reference_ser.beyond_size(errors, errors, np.zeros(9, int), ("a", "b")) is None


@pytest.mark.parametrize("factor", [1.0, 1.3, 0.9, 0.75])
def test_observed_and_expected_are_of_the_same_patients_without_a_failure(factor):
    rng = np.random.default_rng(3)
    sexes = np.repeat(["f", "m"], 40)
    expected = np.where(sexes == "f", 0.06, 0.05) * rng.uniform(0.9, 1.1, 80)
    errors = expected * rng.uniform(0.9, 1.1, 80) * np.where(sexes == "f", factor, 1.0)
    failing = np.array([3, 50])
    errors[failing] = 1.0
    cases = table(errors, [f"p{k}" for k in range(80)], sexes)
    report = scores.scores(cases, ["femur"], ["sex"], min_group_patients=5, draws=40, seed=0)
    reference_ser.add_expected_ser(report, {"dice": expected[:, None]}, cases, cases, ("sex",))
    result = report["dice"]["summaries"]["sex"]["ser"]["beyond_size"]
    is_included = np.delete(np.arange(80), failing)
    men, women = (is_included[sexes[is_included] == sex] for sex in "mf")
    ratio = errors[women].mean() / errors[men].mean()
    of_size = expected[women].mean() / expected[men].mean()
    if factor == 0.75:  # the men are the worst
        ratio, of_size = 1 / ratio, 1 / of_size
    assert result["value"] == pytest.approx(ratio / of_size)
    low, high = result["interval"]
    if factor == 1.0:
        assert low < 1 < high
    else:
        assert high < 1 if factor == 0.9 else low > 1
    assert set(result["patients"].values()) == {39}
