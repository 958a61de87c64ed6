import numpy as np
import pandas as pd
import pytest
from scipy import integrate, optimize, stats

from kneefair_jax import groups
from kneefair_jax.fairness import patient_table, small_groups
from kneefair_jax.fairness.small_groups import PRIOR_FREEDOM, pool
from kneefair_jax.fairness.two_part import hall


def results(levels, dice, minimum=10, draws=999, failure=0.0, **columns):
    cases = pd.DataFrame(
        {
            "case_id": [f"c{i:03d}" for i in range(len(dice))],
            "patient_id": [f"p{i:03d}" for i in range(len(dice))],
            "structure": "femur",
            "race": groups.categorical(pd.Series(levels)),
            "dice": dice,
            **columns,
        }
    )
    table = patient_table.table(cases, ("femur",), failure)
    return small_groups.tests(table, groups.partitions(table.rows, ["race"]), minimum, draws, 0)


def test_nine_patients_far_below_the_rest_are_flagged():
    draw = np.random.default_rng(0)
    dice = np.concatenate([draw.normal(0.55, 0.05, 9), draw.normal(0.95, 0.02, 60)])
    result = results(["C"] * 9 + ["A"] * 40 + ["B"] * 20, dice)["dice"]["race"]
    assert list(result) == ["race=C"]
    test_result = result["race=C"]
    assert test_result.estimate == pytest.approx(dice[:9].mean() - dice[9:].mean())
    assert test_result.p == test_result.p_adjusted == pytest.approx(1 / 1000) and test_result.n == 69


def test_a_single_patient_is_compared_with_every_other():
    dice = [0.2, *np.linspace(0.9, 0.99, 39)]
    result = results(["C"] + ["A"] * 39, dice)["dice"]["race"]["race=C"]
    assert result.p == pytest.approx(1 / 40)
    dice[0] = 0.945
    assert results(["C"] + ["A"] * 39, dice)["dice"]["race"]["race=C"].p > 0.9


def test_missing_is_no_group_and_no_comparison_and_scores_have_their_own_patients():
    dice = [0.9] * 12 + [0.1, 0.2] + [0.0] * 5 + [0.91] * 3
    levels = ["A"] * 12 + ["B"] * 2 + [""] * 5 + ["C"] * 3
    hd95 = np.where(np.array(levels) == "C", np.nan, np.linspace(1, 2, 22))
    result = results(levels, np.array(dice) + np.linspace(0, 0.01, 22), hd95_mm=hd95)
    assert list(result["dice"]["race"]) == ["race=B", "race=C"] and list(result["hd95_mm"]["race"]) == [
        "race=B"
    ]
    assert result["dice"]["race"]["race=B"].n == 17 and result["hd95_mm"]["race"]["race=B"].n == 14
    p = {name: test_result.p for name, test_result in result["dice"]["race"].items()}
    smaller = min(p, key=p.get)
    assert result["dice"]["race"][smaller].p_adjusted == pytest.approx(min(1, 2 * p[smaller]))


def test_patients_with_a_failed_segmentation_are_left_out_and_make_no_group_small():
    draw = np.random.default_rng(1)
    dice = draw.normal(0.9, 0.02, 40)
    dice[[0, 1, 5]] = 0.1
    levels = ["C"] * 5 + ["A"] * 10 + ["B"] * 25
    result = results(levels, dice, failure=0.5)["dice"]["race"]
    assert list(result) == ["race=C"]  # A has ten patients, though one of them failed
    rest = dice[5:][dice[5:] > 0.5]
    assert result["race=C"].n == 3 + len(rest) == 37
    assert result["race=C"].estimate == pytest.approx(dice[2:5].mean() - rest.mean())


def test_nothing_is_tested_if_all_groups_are_ranked_or_no_others_remain():
    assert results(["A"] * 12 + ["B"] * 12, np.linspace(0.8, 0.9, 24)) == {"dice": {}}
    assert results(["A"] * 3, [0.8, 0.9, 0.7]) == {"dice": {}}
    assert results(["A"] * 3 + ["B"], [0.8, 0.9, 0.7, 0.6])["dice"]["race"].keys() == {"race=B"}


def scores_of(sizes, means, seed=0, spread=0.03):
    rng = np.random.default_rng(seed)
    return [mean + spread * rng.normal(size=n) for mean, n in zip(means, sizes, strict=True)]


def brute_force(scores, design):
    """Mean and variance of theta by the joint normal distribution, a vague prior of beta, and quadrature over tau."""
    sizes = np.array([len(values) for values in scores])
    means = np.array([values.mean() for values in scores])
    noise = np.array([values.var(ddof=1) if len(values) > 1 else 0.0 for values in scores])
    common = np.average(noise, weights=[(n - 1) / (PRIOR_FREEDOM + n - 1) for n in sizes])
    moderated = (PRIOR_FREEDOM * common + (sizes - 1) * noise) / (PRIOR_FREEDOM + sizes - 1)
    variances = moderated / sizes
    typical = stats.hmean(variances)
    vague = 10 * design @ design.T

    def moments(tau):
        prior = vague + tau**2 * np.eye(len(means))
        marginal = prior + np.diag(variances)
        gain = prior @ np.linalg.inv(marginal)
        density = stats.multivariate_normal(np.zeros(len(means)), marginal).pdf(means)
        density *= stats.halfcauchy(scale=20 * np.sqrt(typical)).pdf(tau)
        center = gain @ means
        weights = tau**2 / (tau**2 + variances)
        return density * np.r_[1, center, center**2 + np.diag(prior - gain @ prior), weights]

    taus = np.sqrt(typical) * np.r_[np.linspace(0, 5, 200), np.geomspace(5.05, 500, 150)]
    total = integrate.trapezoid([moments(tau) for tau in taus], taus, axis=0)
    first, second, weights = np.split(total[1:] / total[0], 3)
    spread = np.sqrt(second - first**2)
    freedom = np.minimum(PRIOR_FREEDOM + sizes - 1, (sizes - 1).sum()) * spread**2 / (weights * variances)
    standardized = [(x - x.mean()) / np.sqrt(v) for x, v in zip(scores, moderated, strict=True)]
    skewness = np.mean(np.concatenate(standardized) ** 3) / np.sqrt(sizes)
    skewness *= (weights * np.sqrt(variances) / spread) ** 3

    def limit(g, probability):
        """The mean of which Hall's transformation of the studentized distance has Student's quantile."""
        quantile = stats.t(freedom[g]).ppf(probability)
        distance = optimize.brentq(lambda t: hall(t, skewness[g]) - quantile, -50, 50)
        return first[g] - spread[g] * distance

    return first, *([limit(g, p) for g in range(len(sizes))] for p in (0.975, 0.025))


@pytest.mark.parametrize("crossed", [False, True])
def test_estimates_and_intervals_are_those_of_the_joint_distribution(crossed):
    sizes = (40, 20, 9, 4, 1, 6)
    scores = scores_of(sizes, (0.95, 0.94, 0.93, 0.90, 0.95, 0.96))
    design = np.ones((6, 1))
    if crossed:
        design = np.column_stack([design, [0, 0, 0, 1, 1, 1], [0, 1, 0, 0, 1, 0], [0, 0, 1, 0, 0, 1]])
    pooled = pool(scores, design)
    mean, low, high = brute_force(scores, design)
    assert [pooled_mean.mean for pooled_mean in pooled] == pytest.approx(mean, abs=2e-5)
    assert [pooled_mean.interval[0] for pooled_mean in pooled] == pytest.approx(low, abs=2e-4)
    assert [pooled_mean.interval[1] for pooled_mean in pooled] == pytest.approx(high, abs=2e-4)
    assert [pooled_mean.patients for pooled_mean in pooled] == list(sizes)
    assert [pooled_mean.raw for pooled_mean in pooled] == pytest.approx([values.mean() for values in scores])


def test_small_groups_are_shrunken_more_than_large_ones():
    pooled = pool(scores_of((100, 30, 10, 3), (0.95, 0.94, 0.93, 0.96)), np.ones((4, 1)))
    weights = [pooled_mean.weight for pooled_mean in pooled]
    assert weights == sorted(weights, reverse=True)
    assert 0 < weights[-1] < 0.7 and 0.8 < weights[0] < 1


def test_a_group_far_from_all_others_keeps_its_distance():
    pooled = pool(scores_of((50, 50, 50, 20), (0.95, 0.95, 0.95, 0.75)), np.ones((4, 1)))
    assert pooled[3].weight > 0.95 and pooled[3].mean == pytest.approx(pooled[3].raw, abs=0.005)


def test_intervals_reach_further_toward_the_tail_of_skewed_scores():
    rng = np.random.default_rng(0)
    scores = [0.95 - 0.02 * rng.exponential(size=n) for n in (60, 30, 9, 5)]
    pooled, mirrored = pool(scores, np.ones((4, 1))), pool([-values for values in scores], np.ones((4, 1)))
    for pooled_mean, second_mean in zip(pooled, mirrored, strict=True):
        low, high = pooled_mean.interval
        assert pooled_mean.mean - low > 1.1 * (high - pooled_mean.mean) > 0
        assert second_mean.interval == pytest.approx((-high, -low))


def test_a_wide_small_group_does_not_borrow_the_small_variance_of_large_groups():
    rng = np.random.default_rng(0)
    scores = [spread * rng.normal(size=n) for n, spread in ((300, 1.0), (300, 1.0), (12, 1.0), (12, 4.0))]
    lengths = [
        high - low for low, high in (pooled_mean.interval for pooled_mean in pool(scores, np.ones((4, 1))))
    ]
    assert lengths[3] > 1.5 * lengths[2] > 1.5 * lengths[0]


def test_intervals_end_at_the_best_score():
    scores = scores_of((30, 5, 3), (0.95, 0.95, 0.95))
    free = [pooled_mean.interval for pooled_mean in pool(scores, np.ones((3, 1)))]
    best = sorted(high for _, high in free)[-1] - 0.001
    limited = [pooled_mean.interval for pooled_mean in pool(scores, np.ones((3, 1)), 0.0, best)]
    assert limited == [(low, min(high, best)) for low, high in free]


@pytest.mark.parametrize(
    ("sizes", "design"),
    [((10,), np.ones((1, 1))), ((10, 10), np.eye(2)), ((1, 1, 1), np.ones((3, 1)))],
)
def test_nothing_is_pooled_without_a_deviation_or_a_spread_to_estimate(sizes, design):
    assert pool(scores_of(sizes, [0.9] * len(sizes)), design) == []


def test_equal_scores_are_not_pooled():
    assert pool([np.full(5, 0.9), np.full(4, 0.9)], np.ones((2, 1))) == []


def table(sizes):
    """One structure, two cases a patient; sizes: (sex, race) -> patients."""
    rng = np.random.default_rng(1)
    rows = [
        {"case_id": f"{sex}{race}{i}{side}", "patient_id": f"{sex}{race}{i}", "sex": sex, "race": race}
        for (sex, race), n in sizes.items()
        for i in range(n)
        for side in "LR"
    ]
    frame = pd.DataFrame(rows).assign(structure="femur", dice=rng.normal(0.93, 0.02, len(rows)))
    for name in ("sex", "race"):
        frame[name] = pd.Categorical(frame[name])
    return frame


SIZES = {
    ("f", "A"): 40,
    ("f", "B"): 8,
    ("f", "C"): 2,
    ("m", "A"): 30,
    ("m", "B"): 5,
    ("m", "C"): 3,
    ("f", "missing"): 4,
}


def test_groups_of_3_to_29_patients_without_a_failure_are_pooled():
    cases = table(SIZES)
    cases.loc[cases["case_id"] == "mB0L", "dice"] = 0.1
    pooled = small_groups.pool_small_groups(cases, ["femur"], ["sex", "race"], "dice")
    assert {name: pooled_mean.patients for name, pooled_mean in pooled.items()} == {
        "race=B": 12,
        "race=C": 5,
        "sex=f,race=B": 8,
        "sex=m,race=B": 4,
        "sex=m,race=C": 3,
    }
    is_included = cases[(cases["race"] == "B") & (cases["sex"] == "m") & (cases["patient_id"] != "mB0")]
    assert pooled["sex=m,race=B"].raw == pytest.approx(is_included["dice"].mean())
    assert all(
        low < pooled_mean.mean < high
        for pooled_mean in pooled.values()
        for low, high in [pooled_mean.interval]
    )


def test_pairs_of_attributes_can_be_left_out_and_any_score_is_pooled():
    cases = table(SIZES).assign(hd95_mm=lambda rows: 100 * (1 - rows["dice"]))
    pooled = small_groups.pool_small_groups(cases, ["femur"], ["sex", "race"], "hd95_mm", intersections=False)
    assert set(pooled) == {"race=B", "race=C"}
    dice = small_groups.pool_small_groups(cases, ["femur"], ["sex", "race"], "dice", intersections=False)
    assert pooled["race=B"].mean == pytest.approx(100 * (1 - dice["race=B"].mean))


def test_cells_without_patients_leave_an_estimable_design():
    sizes = {("f", "A"): 20, ("m", "A"): 9, ("f", "B"): 8, ("m", "B"): 6, ("m", "C"): 5}
    pooled = small_groups.pool_small_groups(table(sizes), ["femur"], ["sex", "race"], "dice")
    assert {"sex=m,race=A", "sex=f,race=B", "sex=m,race=B", "sex=m,race=C"} <= set(pooled)
    assert pooled["sex=m,race=C"].mean == pytest.approx(
        pooled["sex=m,race=C"].raw
    )  # the only cell of its race
