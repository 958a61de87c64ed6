"""Pairs of masks and predictions, in labels that both can have."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from kneefair_jax import anatomy, predict
from kneefair_jax.data import annotations
from kneefair_jax.errors import InputError
from kneefair_jax.label_errors import compare, comparison
from kneefair_jax.predict.quality import Interval


class Network:
    """A stand-in for a predictor whose masks show the bone in front where two overlap."""

    structures = anatomy.SCHEMES["knee"]

    def require_group(self, group):
        pass

    def segment(self, films, warn):
        assert not warn
        dice = {"femur": Interval(0.9, 0.8, 0.95)}
        return [SimpleNamespace(mask=film[..., 0], predicted_dice=dice) for film in films]


@pytest.mark.parametrize(
    ("structures", "label", "expected"),
    [
        # Masks and predictions of one truth agree: the tibia covers the fibula, the patella the femur.
        (anatomy.SCHEMES["knee_overlaps"], [1, 2, 3, 4, 5, 6, 0], [1, 2, 3, 4, 4, 2, 0]),
        (("femur and patella", "patella", "femur"), [3, 0, 0, 2, 1, 0, 255], [3, 0, 0, 2, 2, 0, 0]),
        (anatomy.SCHEMES["knee"], [1, 2, 3, 4, 4, 2, 0], [1, 2, 3, 4, 4, 2, 0]),
    ],
)
def test_overlap_classes_count_as_the_bone_in_front(monkeypatch, structures, label, expected):
    monkeypatch.setattr(predict, "load", lambda *names, **options: Network())
    film = np.array([[1, 2, 3, 4, 4, 2, 0]], np.uint8)[..., None]
    (pair,) = comparison(structures, "network")([film], [np.array([label], np.uint8)])
    np.testing.assert_array_equal(pair.expected, [0.8 if name == "femur" else np.nan for name in structures])
    for mask in pair[:2]:
        assert mask.dtype == np.uint8
        np.testing.assert_array_equal(mask, [expected])


def test_structures_that_the_network_does_not_segment_are_refused(monkeypatch):
    monkeypatch.setattr(predict, "load", lambda *names, **options: Network())
    with pytest.raises(InputError, match="heart"):
        comparison(("femur", "heart"), "network")


def test_what_a_mask_does_not_show_is_not_compared(monkeypatch):
    """The first mask shows the femur alone, the second one all bones."""
    monkeypatch.setattr(predict, "load", lambda *names, **options: Network())
    film = np.array([[1, 2, 3, 4, 0]], np.uint8)[..., None]
    labels = [[1, 0, 0, 0, 0], [1, 2, 0, 4, 0]]
    cases = [{"image": film, "label": np.array([label], np.uint8)} for label in labels]
    knee = anatomy.SCHEMES["knee"]
    kinds = annotations.of_cohort(pd.DataFrame({annotations.COLUMN: [("femur",), ()]}), knee)
    prepared = SimpleNamespace(cohort=SimpleNamespace(structures=knee, annotations=kinds), cases=cases)
    first, second = compare.pair_reader(prepared, "network", print)([0, 1])
    np.testing.assert_array_equal(first.label, [[1, 0, 0, 0, 0]])
    np.testing.assert_array_equal(first.prediction, [[1, 0, 0, 0, 0]])
    np.testing.assert_array_equal(second.label, [labels[1]])
    np.testing.assert_array_equal(second.prediction, [[1, 2, 3, 4, 0]])
