import numpy as np
import pytest

from kneefair_jax.data.readers import ORIENTATIONS
from kneefair_jax.preflight import faults, mask_orientation
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
    result = mask_orientation.misoriented(ranks([name] * 12))
    assert [one.orientation for one in result] == ([] if name == "none" else [name] * 12)
    assert all(0 <= one.edge_rank_as_read < one.edge_rank <= 1 for one in result)


def test_few_cases_and_two_sites_are_named():
    turns = ["none"] * 10 + ["flip-lr", "rotate-90"]
    result = mask_orientation.misoriented(ranks(turns))
    assert [(one.case_id, one.orientation) for one in result] == [("c10", "flip-lr"), ("c11", "rotate-90")]
    assert len(mask_orientation.misoriented(ranks(["none"] * 6 + ["flip-ud"] * 6))) == 6


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
    assert mask_orientation.misoriented(noise) == []
    blank = np.full((64, 64, 1), 7, np.uint8)
    strength = mask_orientation.edge_ranks(blank, films.knee(0)[1])
    assert np.ptp(list(strength.values())) < 1e-9
    assert mask_orientation.edge_ranks(blank, np.zeros((64, 64), np.uint8)) == {}
    assert mask_orientation.misoriented({}) == []


def test_an_orientation_is_a_cohort_s_where_it_fits_nearly_all():
    def cases(*names):
        return [mask_orientation.Misoriented(str(i), name, 0.9, 0.5) for i, name in enumerate(names)]

    assert mask_orientation.consistent(cases(*["flip-ud"] * 9), 10) == "flip-ud"
    assert mask_orientation.consistent(cases(*["flip-ud"] * 8), 10) == ""
    assert mask_orientation.consistent([], 10) == ""


def advice(remaining, name="cohort", **settings):
    result = {"consistent": remaining, "turned": [{"case_id": "c1", "orientation": remaining}] * 12}
    (line,) = faults._orientation_lines(result, 12, name, settings)
    return line


@pytest.mark.parametrize("current", ORIENTATIONS)
@pytest.mark.parametrize("remaining", list(ORIENTATIONS)[1:])
def test_the_flag_advised_is_the_present_one_and_what_remains(current, remaining):
    line = advice(remaining, kind="folder", orientation=current)
    value = line.split("--config.data.orientation=")[1]
    assert ORIENTATIONS[value] == ORIENTATIONS[current].compose(ORIENTATIONS[remaining])


def test_the_flag_is_advised_where_a_name_can_be_set():
    assert "--config.data.orientation=flip-ud" in advice("flip-ud", kind="folder", orientation="")
    line = advice("flip-ud", "external", kind="folder", orientation="flip-lr")
    assert "--config.data.external_orientation=rotate-180" in line
    for settings in ({"kind": "oai"}, {}, {"kind": "folder", "orientation": "stored"}):
        line = advice("flip-ud", **settings)
        assert "flip-ud" in line and "correct" in line and "--config" not in line
