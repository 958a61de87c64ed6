from collections import Counter

import numpy as np
import pytest

from kneefair_jax.fairness import label_permutations


@pytest.mark.parametrize("sizes", [(1, 3), (2, 2, 1)])
def test_every_labelling_is_as_likely(sizes):
    labels = label_permutations.draw(np.array(sizes), 20_000, np.random.default_rng(0))
    counts = np.array(list(Counter(map(bytes, labels)).values()))
    labellings = {(1, 3): 4, (2, 2, 1): 30}[sizes]
    assert len(counts) == labellings
    expected = 20_000 / labellings
    assert ((counts - expected) ** 2 / expected).sum() < labellings + 5 * np.sqrt(2 * labellings)


@pytest.mark.parametrize("sizes", [(500, 500), (3, 990, 7), (1, 1, 1, 1), (1, 700)])
def test_the_sizes_are_exact(sizes):
    labels = label_permutations.draw(np.array(sizes), 50, np.random.default_rng(1))
    assert labels.shape == (50, sum(sizes))
    for row in labels:
        np.testing.assert_array_equal(np.bincount(row, minlength=len(sizes)), sizes)


def test_large_groups_are_as_likely_at_every_place():
    sizes = np.array([900, 100])
    labels = label_permutations.draw(sizes, 2_000, np.random.default_rng(2))
    counts = labels.sum(0)  # binomial at each place, of 2,000 draws with probability 0.1
    assert abs(counts.var() / (2_000 * 0.1 * 0.9) - 1) < 5 * np.sqrt(2 / 1_000)
    np.testing.assert_allclose(counts, 200, atol=5 * np.sqrt(2_000 * 0.1 * 0.9))


def test_members_are_distinct_and_as_likely_with_and_without_a_search():
    labels = np.tile(np.array([0, 0, 0, 1], np.uint8), 50)
    rng = np.random.default_rng(3)
    for count in (1, 4, 40):  # the last one searches
        members = [label_permutations._members(labels, np.uint8(1), 50, count, rng) for _ in range(2_000)]
        assert all(len(set(some)) == count for some in map(tuple, members))
        counts = np.bincount(np.concatenate(members), minlength=200)
        assert (counts[labels == 0] == 0).all()
        expected = 40 * count
        np.testing.assert_allclose(counts[labels == 1], expected, atol=5 * np.sqrt(expected))
