"""Errors of measurements by hand, by other formulas, and the tests' level."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from kneefair_jax.fairness import measurement_errors as module
from kneefair_jax.fairness.measurement_errors import measurement_errors


def frame(errors, reference=None, sex="f", patients=None, start=0):
    """Return cases with these errors; the reference values are 5, 6, 7, ... by default."""
    errors = np.asarray(errors, float)
    reference = 5.0 + np.arange(len(errors)) % 4 if reference is None else np.asarray(reference, float)
    ids = range(start, start + len(errors)) if patients is None else patients
    return pd.DataFrame(
        {
            "patient_id": [f"p{i}" for i in ids],
            "sex": pd.Categorical(np.broadcast_to(np.asarray(sex, object), len(errors)), ["f", "m"]),
            "reference": reference,
            "predicted": reference + errors,
        }
    )


def of(cases, **options):
    return measurement_errors(cases, ["sex"], unit="mm", **options)


def test_a_group_by_hand():
    cases = frame([0.2, -0.4, 0.6, 0.0], reference=[3, 4, 5, 6])
    result = of(cases, margin=0.3, threshold=3.5, minimum=2).overall
    assert result.cases == 4
    assert result.bias.estimate == pytest.approx(0.1)
    half = stats.t.ppf(0.975, 3) * np.std([0.2, -0.4, 0.6, 0.0], ddof=1) / 2
    assert result.bias.interval == pytest.approx((0.1 - half, 0.1 + half))
    assert result.absolute.estimate == pytest.approx(0.3)
    deviation = np.std([0.2, -0.4, 0.6, 0.0], ddof=1)
    assert result.limits == pytest.approx((0.1 - 1.96 * deviation, 0.1 + 1.96 * deviation))
    assert (result.beyond_margin.count, result.beyond_margin.rate.n) == (2, 4)
    assert (result.wrong_side.count, result.wrong_side.rate.n) == (0, 4)
    crossed = of(cases, threshold=3.1).overall.wrong_side
    assert crossed.count == 1  # 3.0 became 3.2


def test_knees_without_a_value():
    cases = frame([0.1] * 6)
    cases.loc[0, "reference"] = np.nan
    cases.loc[1, "predicted"] = np.nan
    result = of(cases, minimum=2).overall
    assert result.cases == 5
    assert (result.not_measured.count, result.not_measured.rate.n) == (1, 5)
    assert result.bias.n == 4
    assert (result.beyond_margin, result.wrong_side) == (None, None)


def test_patients_are_the_sample():
    """Two knees of a patient are one observation of the mean, and two of the limits of agreement."""
    cases = frame([0.0, 0.4, 1.0, 1.4, -1.0, -0.6], patients=[0, 0, 1, 1, 2, 2])
    result = of(cases, margin=0.5, minimum=2).overall
    assert result.bias.n == 3
    assert result.bias.estimate == pytest.approx(0.2)
    means = np.array([0.2, 1.2, -0.8])
    half = stats.t.ppf(0.975, 2) * means.std(ddof=1) / np.sqrt(3)
    assert result.bias.interval == pytest.approx((0.2 - half, 0.2 + half))
    # Within patients the variance is 2 * 0.2**2 = 0.08; between, that of the means less 0.08 / 2.
    deviation = np.sqrt(means.var(ddof=1) - 0.04 + 0.08)
    assert result.limits == pytest.approx((0.2 - 1.96 * deviation, 0.2 + 1.96 * deviation))
    assert (result.beyond_margin.count, result.beyond_margin.rate.n) == (2, 3)


def test_a_proportional_error_has_its_slope():
    reference = np.linspace(2, 8, 30)
    result = of(frame(0.1 * reference - 0.3, reference)).overall
    assert result.slope.estimate == pytest.approx(0.1)
    assert of(frame([0.1] * 4)).overall.slope.estimate is None


def two_groups(shift, n=40, spread=0.3, seed=0):
    rng = np.random.default_rng(seed)
    return pd.concat(
        [
            frame(rng.normal(0, spread, n), sex="f"),
            frame(rng.normal(shift, spread, n), sex="m", start=n),
        ],
        ignore_index=True,
    )


def test_a_planted_bias_is_found_with_its_size():
    result = of(two_groups(-1.0), margin=0.2)
    (pair,) = result.attributes["sex"].pairs
    assert (pair.first, pair.second) == ("sex=f", "sex=m")
    assert pair.bias.interval[0] < 1.0 < pair.bias.interval[1]
    assert result.attributes["sex"].p == pair.bias.p < 0.001
    assert pair.absolute.estimate < 0
    assert result.attributes["sex"].equivalent is False
    assert result.groups["sex=m"].bias.estimate == pytest.approx(-1, abs=0.15)


def test_equal_groups_are_equivalent_within_the_margin():
    result = of(two_groups(0.0, n=200), margin=0.2).attributes["sex"]
    assert result.equivalent is True
    assert result.p > 0.05
    assert of(two_groups(0.0, n=200)).attributes["sex"].equivalent is None
    assert of(two_groups(0.0, n=12, spread=1.0), margin=0.2).attributes["sex"].equivalent is False


def test_a_small_group_is_shown_and_not_compared():
    cases = pd.concat([frame([0.1, 0.2] * 20), frame([0.3] * 5, sex="m", start=40)])
    result = of(cases, margin=0.2)
    assert result.groups["sex=m"].bias.n == 5
    assert not result.groups["sex=m"].not_measured.ranked
    assert result.attributes["sex"] == module.AttributeErrors([], None, None, None)


def test_p_values_are_corrected_over_measurements():
    results = {
        name: of(two_groups(shift, seed=number), draws=999)
        for number, (name, shift) in enumerate({"a": 0.0, "b": 0.3, "c": -0.2}.items())
    }
    p = [result.attributes["sex"].p for result in results.values()]
    adjusted = [result.attributes["sex"].p_adjusted for result in module.adjust(results).values()]
    assert adjusted == pytest.approx(stats.false_discovery_control(p))


def test_random_groups_are_rarely_called_different():
    """The level of 5 % over 150 random regroupings, with skewed errors and unequal groups."""
    rng = np.random.default_rng(3)
    errors = rng.exponential(0.3, 120) - 0.1
    rejections = 0
    for number in range(150):
        sex = np.where(rng.permutation(120) < 30, "m", "f")
        result = of(frame(errors, sex=sex), draws=199, seed=number)
        rejections += result.attributes["sex"].p < 0.05
    assert stats.binomtest(rejections, 150, 0.05, "greater").pvalue > 0.001


def test_no_reference_value_at_all():
    cases = frame([0.1] * 4)
    cases["reference"] = np.nan
    result = of(cases)
    assert result.overall.cases == 0
    assert result.overall.bias.estimate is None
    assert result.overall.limits is None


def test_only_the_pair_that_differs_is_called_so():
    """Of three groups one has another bias; the other two are equivalent, though the attribute differs."""
    rng = np.random.default_rng(1)
    parts = [frame(rng.normal(shift, 0.1, 30), start=30 * i) for i, shift in enumerate((0.0, 0.0, 1.0))]
    cases = pd.concat(parts, ignore_index=True).assign(sex=pd.Categorical(np.repeat(["a", "b", "c"], 30)))
    pairs = {(pair.first, pair.second): pair for pair in of(cases, margin=0.2).attributes["sex"].pairs}
    same = pairs["sex=a", "sex=b"]
    assert same.bias.p > 0.05
    assert same.equivalent is True
    for first in ("sex=a", "sex=b"):
        assert pairs[first, "sex=c"].bias.p < 0.001
        assert pairs[first, "sex=c"].equivalent is False
