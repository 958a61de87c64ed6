import numpy as np

from kneefair_jax.predict import prediction
from kneefair_jax.predict.prediction import Prediction
from kneefair_jax.predict.quality import Interval


def test_the_halves_say_which_knee_is_meant():
    halves = (
        Prediction(np.zeros((4, 5), np.uint8), {"tibia": 0.99}, warnings)
        for warnings in ((), ("no tibia found",))
    )
    both = prediction.join_halves(*halves)
    assert both.warning == "left knee: no tibia found"


def test_the_halves_of_a_film_are_named_by_side():
    image = np.full((4, 11, 1), 90, np.uint8)
    image[:, 5] = 0
    right, left = prediction.halves_of(image)
    assert right.shape == (4, 5, 1) and left.shape == (4, 6, 1)
    halves = [
        Prediction(
            np.full((4, w), 2, np.uint8),
            {"femur": v, "tibia": v},
            predicted_dice={"tibia": Interval(v, v - 0.1, v + 0.05)},
        )
        for w, v in ((5, 0.9), (6, 0.8))
    ]
    both = prediction.join_halves(*halves)
    assert tuple(both.confidence) == ("right femur", "left femur", "right tibia", "left tibia")
    assert (both.mask == np.repeat([3, 4], [5, 6])).all()
    assert both.predicted_dice["left tibia"] == (0.8, 0.8 - 0.1, 0.8 + 0.05)
    assert both.confidence["right tibia"] == 0.9
    assert prediction.structures_of_both_knees(("femur", "tibia", "fibula", "patella"))[:2] == (
        "right patella",
        "left patella",
    )
