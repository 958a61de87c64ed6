import numpy as np
import pytest

from kneefair_jax.data.readers import ORIENTATIONS
from kneefair_jax.preflight import mask_orientation
from tests.hostile import films


def ranks(turns):
    """Of phantom knees whose masks lie as the names say."""
    knees = [films.knee(n) for n in range(len(turns))]
    return {
        f"c{n}": mask_orientation.edge_ranks(image[..., None], ORIENTATIONS[name].undo(label))
        for n, ((image, label), name) in enumerate(zip(knees, turns, strict=True))
    }


@pytest.mark.parametrize("name", ORIENTATIONS)
def test_the_orientation_that_fits_is_named(name):
    result = mask_orientation.turned(ranks([name] * 12))
    assert [one.orientation for one in result] == ([] if name == "none" else [name] * 12)
    assert all(0 <= one.edge_rank_as_read < one.edge_rank <= 1 for one in result)


def test_few_cases_and_two_sites_are_named():
    turns = ["none"] * 10 + ["flip-lr", "rotate-90"]
    result = mask_orientation.turned(ranks(turns))
    assert [(one.case_id, one.orientation) for one in result] == [("c10", "flip-lr"), ("c11", "rotate-90")]
    assert len(mask_orientation.turned(ranks(["none"] * 6 + ["flip-ud"] * 6))) == 6


def test_exposure_and_contrast_do_not_matter():
    image, label = films.knee(0)
    for film in (image // 2, 255 - image):
        strength = mask_orientation.edge_ranks(film[..., None], label[::-1])
        assert max(strength, key=strength.get) == "flip-ud"


def test_masks_that_follow_no_edges_say_nothing():
    rng = np.random.default_rng(0)
    noise = {
        f"c{n}": mask_orientation.edge_ranks(
            rng.integers(0, 255, (64, 64, 1)).astype(np.uint8), films.knee(n)[1]
        )
        for n in range(24)
    }
    assert mask_orientation.turned(noise) == []
    blank = np.full((64, 64, 1), 7, np.uint8)
    strength = mask_orientation.edge_ranks(blank, films.knee(0)[1])
    assert np.ptp(list(strength.values())) < 1e-9
    assert mask_orientation.edge_ranks(blank, np.zeros((64, 64), np.uint8)) == {}
    assert mask_orientation.turned({}) == []


def test_an_orientation_is_a_cohort_s_where_it_fits_nearly_all():
    def cases(*names):
        return [mask_orientation.Turned(str(i), name, 0.9, 0.5) for i, name in enumerate(names)]

    assert mask_orientation.consistent(cases(*["flip-ud"] * 9), 10) == "flip-ud"
    assert mask_orientation.consistent(cases(*["flip-ud"] * 8), 10) == ""
    assert mask_orientation.consistent([], 10) == ""
