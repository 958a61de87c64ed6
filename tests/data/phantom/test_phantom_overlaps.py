"""Overlap classes of drawn phantoms against masks that are drawn from the distances directly."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kneefair_jax import anatomy
from kneefair_jax.data.phantom import draw_case, render, shapes, source
from kneefair_jax.errors import InputError
from tests.data.phantom.test_phantom_cohort import SIZE, config, examples

KNEE, OVERLAPS = anatomy.SCHEMES["knee"], anatomy.SCHEMES["knee_overlaps"]


def painted(bones, order):
    """A label map of the scheme `knee` by painting whole bones one over another."""
    label = np.zeros(bones["femur"].shape, np.uint8)
    for name in order:
        label[bones[name]] = 1 + KNEE.index(name)
    return label


def check_identities(label, bones):
    """Of a label map with overlap classes and the bones, bool[H, W] each, that it was drawn from."""
    masks = dict(
        zip(
            anatomy.whole_bones(OVERLAPS),
            anatomy.membership(OVERLAPS, anatomy.whole_bones(OVERLAPS))[:, label],
            strict=True,
        )
    )
    upper = bones["femur"] | bones["patella"]  # which lie in front of tibia and fibula
    np.testing.assert_array_equal(masks["whole femur"], bones["femur"])
    np.testing.assert_array_equal(masks["whole patella"], bones["patella"])
    np.testing.assert_array_equal(masks["whole tibia"], bones["tibia"] & ~upper)
    np.testing.assert_array_equal(masks["whole fibula"], bones["fibula"] & ~upper)
    for in_front, order in {
        "tibia": ("fibula", "tibia", "femur", "patella"),
        "fibula": ("tibia", "fibula", "femur", "patella"),
    }.items():
        np.testing.assert_array_equal(
            anatomy.translation(OVERLAPS, KNEE, in_front)[label], painted(bones, order)
        )


def test_every_combination_of_bones():
    """All 16 sets of bones that a pixel may lie in, at several distances."""
    rng = np.random.default_rng(0)
    sets = np.array(np.meshgrid(*[[-1.0, 1.0]] * 4)).reshape(4, 16)
    distances = shapes.Contours(*(sets[:, None, :] * rng.uniform(0.1, 5, (4, 3, 16))).astype(np.float32))
    bones = {name: np.asarray(getattr(distances, name)) > 0 for name in KNEE}
    label = np.asarray(render.label_map(distances, overlaps=True))
    check_identities(label, bones)
    np.testing.assert_array_equal(
        render.label_map(distances), painted(bones, ("fibula", "tibia", "femur", "patella"))
    )
    assert set(np.unique(label)) == set(range(7))


@pytest.mark.slow
def test_a_cohort_with_overlap_classes_has_the_same_images():
    plain = examples(source(config(patients=8), size=SIZE, seed=3))
    cohort = source(config(patients=8, structures="knee_overlaps"), size=SIZE, seed=3)
    assert cohort.structures == OVERLAPS and cohort.settings["structures"] == "knee_overlaps"
    to_knee = anatomy.translation(OVERLAPS, KNEE)
    labels = set()
    for knee, overlaps in zip(plain, examples(cohort), strict=True):
        np.testing.assert_array_equal(knee.image, overlaps.image)
        np.testing.assert_array_equal(knee.label, to_knee[overlaps.label])
        labels |= set(np.unique(overlaps.label).tolist())
    assert labels == set(range(7))


def test_the_scheme_knee_is_the_default():
    plain = source(config(), size=SIZE, seed=0).settings
    assert plain == source(config(structures="knee"), size=SIZE, seed=0).settings


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"structures": "knees"}, "structures = 'knees'"),
        ({"structures": "knee_overlaps", "bilateral": True}, "bilateral = False"),
    ],
)
def test_other_schemes_are_refused(changes, words):
    with pytest.raises(InputError, match=words):
        source(config(**changes), size=SIZE, seed=0)


@pytest.mark.slow
def test_drawn_phantoms_at_both_ends_of_the_ranges(monkeypatch):
    """The label map of the case against the distances that it was drawn from."""
    calls = []
    monkeypatch.setattr(
        render, "label_map", lambda distances, *_, **__: calls.append(distances) or jnp.zeros(1, jnp.uint8)
    )

    def distances(key, width):
        draw_case(key, size=(96, 96), width=width, overlaps=True)
        return calls.pop()

    keys = jax.random.split(jax.random.key(5), 12)
    of_cases = [jax.device_get(jax.jit(jax.vmap(lambda k: distances(k, w)))(keys)) for w in (0.0, 1.0)]  # noqa: B023
    monkeypatch.undo()
    for one in of_cases:
        label = np.asarray(render.label_map(one, overlaps=True))
        check_identities(label, {name: np.asarray(getattr(one, name)) > 0 for name in KNEE})
        assert set(np.unique(label)) == set(range(7))
