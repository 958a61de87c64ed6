"""Scores of structures that share pixels, against each structure's own mask."""

import numpy as np

from kneefair_jax import anatomy, metrics

OVERLAPS = anatomy.SCHEMES["knee_overlaps"]


def test_each_structure_scores_as_its_own_mask():
    rng = np.random.default_rng(0)
    truth, prediction = rng.integers(0, 7, (2, 12, 14))
    prediction = np.where(rng.uniform(size=truth.shape) < 0.6, truth, prediction)
    bones = anatomy.whole_bones(OVERLAPS)
    spacing = (0.5, 0.25)

    def score(predicted, true):
        return metrics.mask_scores(predicted, true, len(bones), spacing)

    scores = metrics.by_layer(score, anatomy.layers(OVERLAPS, bones), prediction, truth)
    members = anatomy.membership(OVERLAPS, bones)
    for s in range(len(bones)):
        own = metrics.mask_scores(
            members[s][prediction].astype(int), members[s][truth].astype(int), 1, spacing
        )
        for name, values in scores.items():
            np.testing.assert_allclose(values[s], own[name][0], err_msg=name)


def test_a_structure_that_is_absent_has_no_score():
    empty = np.zeros((4, 4), int)
    score = lambda predicted, true: metrics.mask_scores(predicted, true, 4, (1, 1))
    layers = anatomy.layers(OVERLAPS, anatomy.whole_bones(OVERLAPS))
    assert np.isnan(metrics.by_layer(score, layers, empty, empty)["dice"]).all()
    one = np.where(np.eye(4, dtype=bool), 6, 0)  # tibia and fibula
    np.testing.assert_array_equal(metrics.by_layer(score, layers, one, one)["dice"], [np.nan, 1, 1, np.nan])
