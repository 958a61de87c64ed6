import itertools

import numpy as np
import pytest

from kneefair_jax.data.readers import NONE, ORIENTATIONS, orientation

ARRAY = np.arange(24).reshape(2, 4, 3)
NUMPY = {
    "none": lambda a: a,
    "flip-lr": np.fliplr,
    "flip-ud": np.flipud,
    "rotate-180": lambda a: np.rot90(a, 2),
    "transpose": lambda a: a.swapaxes(0, 1),
    "rotate-90": np.rot90,
    "rotate-270": lambda a: np.rot90(a, 3),
    "anti-transpose": lambda a: np.rot90(a, 2).swapaxes(0, 1),
}


@pytest.mark.parametrize("name", NUMPY)
def test_names_are_numpy_s(name):
    one = ORIENTATIONS[name]
    np.testing.assert_array_equal(one.apply(ARRAY), NUMPY[name](ARRAY))
    np.testing.assert_array_equal(one.undo(one.apply(ARRAY)), ARRAY)
    assert one.of_pair(np.array([2, 4])).tolist() == list(one.apply(ARRAY).shape[:2])


def test_one_after_the_other_is_one_of_the_eight():
    assert set(ORIENTATIONS) == set(NUMPY) and ORIENTATIONS["none"] == NONE
    for one, other in itertools.product(ORIENTATIONS.values(), repeat=2):
        np.testing.assert_array_equal(one.compose(other).apply(ARRAY), other.apply(one.apply(ARRAY)))


@pytest.mark.parametrize("affine", [np.zeros((4, 4)), np.full((4, 4), np.nan), np.diag([0, 1, 1, 1])])
def test_a_singular_affine_states_nothing(affine):
    assert orientation.of_affine(affine) is None


@pytest.mark.parametrize("cosines", [[], [1, 0, 0], [1, 0, 0, 1, 0, 0], [0] * 6, [2, 0, 0, 0, 2, 0]])
def test_directions_that_are_none(cosines):
    assert orientation.of_directions(cosines) is None


@pytest.mark.parametrize(
    ("letters", "name"),
    [
        ("LF", "none"),
        ("RF", "flip-lr"),
        ("LH", "flip-ud"),
        ("FL", "transpose"),
        ("AF", "none"),
        ("PH", "flip-ud"),
    ],
)
def test_patient_orientation(letters, name):
    assert orientation.of_letters(list(letters)) == ORIENTATIONS[name]


@pytest.mark.parametrize("letters", [[], ["L"], ["L", "R"], ["X", "F"], ["", "F"]])
def test_letters_that_are_none(letters):
    assert orientation.of_letters(letters) is None
