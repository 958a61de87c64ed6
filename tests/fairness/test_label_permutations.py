from collections import Counter

import numpy as np
import pytest

from kneefair_jax.fairness import label_permutations


@pytest.mark.parametrize("sizes", [(1, 3), (2, 2, 1)])
def test_every_labelling_is_as_likely(sizes):
    drawn = label_permutations.draw(np.array(sizes), 20_000, np.random.default_rng(0))
    counts = np.array(list(Counter(map(bytes, drawn)).values()))
    labellings = {(1, 3): 4, (2, 2, 1): 30}[sizes]
    assert len(counts) == labellings
    expected = 20_000 / labellings
    assert ((counts - expected) ** 2 / expected).sum() < labellings + 5 * np.sqrt(2 * labellings)


@pytest.mark.parametrize("sizes", [(500, 500), (3, 990, 7), (1, 1, 1, 1), (1, 700)])
def test_the_sizes_are_exact(sizes):
    drawn = label_permutations.draw(np.array(sizes), 50, np.random.default_rng(1))
    assert drawn.shape == (50, sum(sizes))
    for row in drawn:
        np.testing.assert_array_equal(np.bincount(row, minlength=len(sizes)), sizes)
