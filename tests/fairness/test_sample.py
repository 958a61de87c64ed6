import numpy as np

from kneefair_jax.fairness import sample as module


def test_columns_of_the_same_patients_are_one_sample():
    rng = np.random.default_rng(0)
    values = rng.uniform(size=(12, 3))
    values[:2, 1] = np.nan
    index = np.array([1] * 6 + [0] * 5 + [-1])
    found = {tuple(one.columns): one for one in module.samples(values, index, 5)}
    assert set(found) == {(0, 2), (1,)}
    one = found[0, 2]
    assert sorted(one.groups) == [0, 1] and one.sizes.sum() == 12 and one.ranked.sizes.sum() == 11
    np.testing.assert_allclose(
        [part.mean() for part in one.parts(1)], [values[6:11, 2].mean(), values[:6, 2].mean()]
    )
    np.testing.assert_array_equal(values[one.rows][:, [0, 2]].T, one.scores)
    assert found[1,].groups == (0,)  # of the other group four are left


def test_the_means_are_in_the_order_of_the_groups():
    rng = np.random.default_rng(0)
    values, index = rng.uniform(size=(30, 2)), np.repeat([2, 0, 1, -1], [8, 9, 10, 3])
    values[index == 0] += 1  # the last by its mean
    (one,) = module.samples(values, index, 5)
    means = module.resampled(one, np.random.default_rng(0), 50)
    for k, drawn in enumerate(means):
        expected = [values[index == g, k].mean() for g in (0, 1, 2, -1)]
        np.testing.assert_allclose(drawn.point[0], expected)
        np.testing.assert_allclose(drawn.drawn.mean(0)[0], expected, atol=0.1)
        assert drawn.drawn.shape == drawn.squared.shape == (50, 1, 4)


def test_a_group_of_four_has_no_resamples():
    (one,) = module.samples(np.random.default_rng(0).uniform(size=(10, 2)), np.repeat([0, 1], [6, 4]), 1)
    assert module.resampled(one, np.random.default_rng(0), 9) == [None, None]
    (none,) = module.samples(np.full((4, 1), np.nan), np.zeros(4, int), 1)
    assert none.groups == () and module.resampled(none, np.random.default_rng(0), 9) == [None]
