import numpy as np
import pytest

from kneefair_jax.fairness import bootstrap, patient_bootstrap
from kneefair_jax.fairness.patient_bootstrap import Statistics


def cohort(rng, means, sizes, spread=0.03, methods=1, seeds=1):
    """f[M, S, P]: the groups' true means, with the patient's own difficulty shared by methods and seeds."""
    index = np.repeat(np.arange(len(sizes)), sizes)
    patients = rng.normal(0, spread, len(index))
    return np.asarray(means)[index] + patients + rng.normal(0, 0.002, (methods, seeds, len(index))), index


def test_strata_by_hand():
    values = np.array([[[0.9, 0.8, np.nan, 0.7, 0.6, 0.95, 0.5]]])
    index = np.array([1, 0, 0, 0, 2, 1, -1])
    strata = patient_bootstrap.stratify(values, index, 2)
    assert strata.groups == (0, 1) and strata.sizes.tolist() == [2, 2, 2]  # group 2 is too small to rank
    np.testing.assert_array_equal(strata.values[0, 0], [0.7, 0.8, 0.9, 0.95, 0.5, 0.6])
    values = patient_bootstrap.statistics(
        patient_bootstrap.means(strata.values, strata.sizes), strata.values.mean(-1), 2
    )
    np.testing.assert_allclose(values.mean, [[4.45 / 6]])
    np.testing.assert_allclose(values.pair, [[0.175]])
    np.testing.assert_allclose(values.worst, [[0.75]])
    np.testing.assert_allclose(values.es, [[4.45 / 6 / (1 + abs(4.45 / 6 - 0.75) + abs(4.45 / 6 - 0.925))]])


def test_resamples_have_the_moments_that_they_should():
    averages, index = cohort(np.random.default_rng(0), [0.9, 0.8], [40, 12], methods=2)
    strata = patient_bootstrap.stratify(averages, index, 5)
    means, variances = patient_bootstrap.resample(
        strata.values[:, 0], strata.sizes, np.random.default_rng(1), 20_000
    )
    assert means.shape == variances.shape == (20_000, 2, 2)
    for k, part in enumerate(np.split(strata.values[:, 0], [12], axis=-1)):
        n = part.shape[1]
        np.testing.assert_allclose(means[:, :, k].mean(0), part.mean(1), atol=3e-4)
        np.testing.assert_allclose(means[:, :, k].std(0), part.std(1) / np.sqrt(n), rtol=0.03)
        # E of a resample's variance is (n - 1) / n of the sample's.
        np.testing.assert_allclose(variances[:, :, k].mean(0), part.var(1) / n, rtol=0.03)
    assert np.corrcoef(means[:, 0, 0], means[:, 1, 0])[0, 1] > 0.9  # the same resamples for both methods
    assert abs(np.corrcoef(means[:, 0, 0], means[:, 0, 1])[0, 1]) < 0.03


def test_chunks_change_nothing(monkeypatch):
    averages = np.random.default_rng(0).uniform(size=(2, 30))
    single = patient_bootstrap.resample(averages, np.array([20, 10]), np.random.default_rng(1), 300)
    monkeypatch.setattr(bootstrap, "CHUNK", 20 * 7)
    chunked = patient_bootstrap.resample(averages, np.array([20, 10]), np.random.default_rng(1), 300)
    np.testing.assert_allclose(single, chunked, rtol=1e-12)


@pytest.mark.parametrize(
    ("key", "means", "sizes", "truth"),
    [
        ("pair", (0.88, 0.92), (15, 60), 0.04),
        ("gap", (0.88, 0.92), (15, 60), 0.04),
        ("gap", (0.85, 0.9, 0.95), (15, 20, 40), 0.1),
        ("ser", (0.88, 0.92), (25, 60), 1.5),
        ("worst", (0.9, 0.9), (60, 60), 0.9),
        ("worst", (0.9,) * 4, (60,) * 4, 0.9),
        ("es", (0.9, 0.9), (60, 60), 0.9),
        ("es", (0.9,) * 4, (60,) * 4, 0.9),
        ("ser", (0.9,) * 4, (60,) * 4, 1.0),
        ("mean", (0.88, 0.92), (15, 60), 0.912),
    ],
)
def test_covers_as_often_as_it_says(key, means, sizes, truth):
    rng = np.random.default_rng(0)
    coverage = []
    for _ in range(250):
        strata = patient_bootstrap.stratify(*cohort(rng, means, sizes, spread=0.02), 5)
        low, high = getattr(patient_bootstrap.intervals(strata, rng, 500).methods[0], key)
        coverage.append(low <= truth <= high)
    # Simultaneous intervals are on the safe side.
    exact = key in ("pair", "mean") or (key == "gap" and len(sizes) == 2)
    assert 0.91 < np.mean(coverage) <= (0.985 if exact else 1)


def test_a_change_of_the_worst_mean_covers_as_often_as_it_says():
    """The method makes groups equal, so a sample's lowest lies below the true one; the baseline's does not."""
    rng = np.random.default_rng(0)
    index, coverage = np.repeat(np.arange(4), 60), []
    for _ in range(150):
        true = np.stack([np.array([0.95, 0.95, 0.95, 0.8])[index], np.full(len(index), 0.9)])[:, None]
        values = true + rng.normal(0, 0.03, (2, 1, len(index)))
        strata = patient_bootstrap.stratify(values, index, 5)
        low, high = patient_bootstrap.intervals(strata, rng, 500).changes[1].worst
        coverage.append(low <= 0.1 <= high)
    assert np.mean(coverage) > 0.91


def test_an_interval_of_a_gap_may_hold_zero():
    """The trap: percentiles of max - min, or of max / min, never cover 0 (or 1)."""
    rng = np.random.default_rng(0)
    for sizes in ((30, 30), (30, 30, 30)):
        values, index = cohort(rng, [0.9] * len(sizes), sizes)
        strata = patient_bootstrap.stratify(values, index, 5)
        (ends,) = patient_bootstrap.intervals(strata, rng, 1000).methods
        assert ends.gap[0] <= 0 <= ends.gap[1]
        assert ends.ser[0] == 1 < ends.ser[1]


def test_too_few_distances_have_no_interval():
    values, index = cohort(np.random.default_rng(0), [0.9, 0.8], [30, 20])
    strata = patient_bootstrap.stratify(values, index, 5)
    distances = np.where(np.arange(50) < bootstrap.MIN_PATIENTS - 1, values, np.nan)
    ends = patient_bootstrap.intervals(strata, np.random.default_rng(0), 200, distances=distances)
    assert ends.distances == ends.distance_changes == [None]
    ends = patient_bootstrap.intervals(strata, np.random.default_rng(0), 200, distances=values)
    assert ends.distances[0] is not None and ends.distance_changes == [[0, 0]]


def test_identical_patients_and_perfect_scores():
    index = np.repeat([0, 1], 8)
    same = patient_bootstrap.stratify(np.where(index == 0, 0.8, 0.9)[None, None], index, 5)
    (ends,) = patient_bootstrap.intervals(same, np.random.default_rng(0), 200).methods
    np.testing.assert_allclose(ends.pair, [0.1, 0.1])
    np.testing.assert_allclose(ends.ser, [2, 2])
    perfect = patient_bootstrap.stratify(np.where(index == 0, 0.8, 1.0)[None, None], index, 5)
    assert patient_bootstrap.intervals(perfect, np.random.default_rng(0), 200).methods[0].ser is None


def test_too_few_patients_have_no_interval():
    values, index = cohort(np.random.default_rng(0), [0.9, 0.8], [30, bootstrap.MIN_PATIENTS - 1])
    small = patient_bootstrap.stratify(values, index, 2)
    assert patient_bootstrap.intervals(small, np.random.default_rng(0), 100) is None
    single_group = patient_bootstrap.stratify(values, index, 10)  # one group left: a mean is all there is
    assert len(single_group.groups) == 1
    ends = patient_bootstrap.intervals(single_group, np.random.default_rng(0), 100)
    assert ends.methods == [Statistics(ends.methods[0].mean)] and ends.methods[0].mean is not None
    assert ends.changes == [Statistics([0, 0])]


def test_columns_of_the_same_patients_are_one_sample():
    rng = np.random.default_rng(0)
    values = rng.uniform(size=(12, 3))
    values[:2, 1] = np.nan
    index = np.array([1] * 6 + [0] * 5 + [-1])
    samples = {tuple(sample.columns): sample for sample in patient_bootstrap.samples(values, index, 5)}
    assert set(samples) == {(0, 2), (1,)}
    sample = samples[0, 2]
    assert sorted(sample.groups) == [0, 1] and sample.sizes.sum() == 12 and sample.ranked.sizes.sum() == 11
    np.testing.assert_allclose(
        [scores.mean() for scores in sample.group_scores(1)], [values[6:11, 2].mean(), values[:6, 2].mean()]
    )
    np.testing.assert_array_equal(values[sample.rows][:, [0, 2]].T, sample.scores)
    assert samples[1,].groups == (0,)  # four patients of the other group have this score


def test_samples_without_a_score_have_no_groups():
    (sample,) = patient_bootstrap.samples(np.full((4, 1), np.nan), np.zeros(4, int), 1)
    assert sample.groups == ()


def test_resampled_means_are_in_the_order_of_the_groups():
    rng = np.random.default_rng(0)
    values, index = rng.uniform(size=(30, 2)), np.repeat([2, 0, 1, -1], [8, 9, 10, 3])
    values[index == 0] += 1  # the last by its mean
    (sample,) = patient_bootstrap.samples(values, index, 5)
    means = patient_bootstrap.means(sample.scores, sample.sizes)[:, sample.order]
    resampled_means, variances = patient_bootstrap.resample(sample.scores, sample.sizes, rng, 50)
    assert resampled_means.shape == variances.shape == (50, 2, 4)
    expected = [[values[index == g, k].mean() for g in (0, 1, 2, -1)] for k in range(2)]
    np.testing.assert_allclose(means, expected)
    np.testing.assert_allclose(resampled_means.mean(0)[:, sample.order], expected, atol=0.1)
