import numpy as np
import pytest

from kneefair_jax.data.readers import ORIENTATIONS
from kneefair_jax.preflight import mask_orientation
from tests.hostile import films


@pytest.mark.parametrize("name", ORIENTATIONS)
def test_the_orientation_that_fits_is_named(name):
    for n in range(12):
        image, label = films.knee(n)
        result = mask_orientation.turned("c", image[..., None], ORIENTATIONS[name].undo(label))
        assert (result is None) if name == "none" else (result.orientation == name), n


def test_exposure_and_contrast_do_not_matter():
    image, label = films.knee(0)
    for film in (image // 4, 255 - image):
        result = mask_orientation.turned("c", film[..., None], label[::-1])
        assert result.case_id == "c" and result.orientation == "flip-ud"
        assert 0 <= result.edge_rank_as_read < result.edge_rank <= 1


def test_a_mask_without_contours_and_a_blank_film_say_nothing():
    image, label = films.knee(0)
    assert mask_orientation.turned("c", image[..., None], np.zeros_like(label)) is None
    assert mask_orientation.turned("c", np.full((64, 64, 1), 7, np.uint8), label) is None


def test_an_orientation_is_a_cohort_s_where_it_fits_nearly_all():
    def cases(*names):
        return [mask_orientation.Turned(str(i), name, 0.9, 0.5) for i, name in enumerate(names)]

    assert mask_orientation.consistent(cases(*["flip-ud"] * 9), 10) == "flip-ud"
    assert mask_orientation.consistent(cases(*["flip-ud"] * 8), 10) == ""
    assert mask_orientation.consistent([], 10) == ""
