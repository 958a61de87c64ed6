"""What each switch moves and what it leaves alone; and that without switches nothing tells groups apart."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats
from scipy.ndimage import distance_transform_edt

from kneefair_jax.data.phantom import Bias, draw_case, source
from kneefair_jax.data.phantom.case import ANNOTATION_MM, CASE_SWITCHES, SWITCHES

SIZE = (64, 64)
FOV = 230.0  # the limb's edges are in the picture
TIBIA = 2


def statistics(phantom):
    """A number for each thing that a switch may move; f32[] each."""
    grey = phantom.image.astype(jnp.float32)
    bone, tibia = phantom.exact > 0, phantom.exact == TIBIA
    tissue = ~bone & (grey > 12)
    within = tibia[:, 1:] & tibia[:, :-1]

    def mean(values, where):
        return (values * where).sum() / jnp.maximum(where.sum(), 1)

    # Soft tissue beside the shafts, within 12 mm of bone: a limb's own shape plays no part.
    reach = round(12 / FOV * bone.shape[0])
    around = jax.lax.reduce_window(bone, False, jnp.logical_or, (2 * reach + 1,) * 2, (1, 1), "SAME")

    return {
        "bone area": bone.mean(),
        "grade": phantom.grade.max().astype(jnp.float32),
        "contour": (phantom.label > 0).mean() - bone.mean(),
        "bone contrast": mean(grey, bone) - mean(grey, around & tissue),
        "roughness": mean(jnp.abs(jnp.diff(grey, axis=1)), within),
        "limb": (grey > 12).mean(),
        "corner": grey[:12, :12].max(),
    }


# + and -: must grow or shrink, 0: must stay, a point: may be either. Less mineral lets more of the beam through, so
# contrast moves the noise too; a wider limb fills more of the picture and scatters more, which takes contrast and, with
# the photons that it adds, noise; other bones and worn joints are other pictures in ways that nobody has to state.
TABLE = """
               bone area  grade  contour  bone contrast  roughness  limb  corner
morphology     -          0      0        .              .          0     0
contrast       0          0      0        -              -          0     0
noise          0          0      0        0              +          0     0
soft_tissue    0          0      0        -              -          +     .
osteophytes    +          +      0        .              .          0     0
annotation     0          0      +        0              0          0     0
marker         0          0      0        0              0          .     +
"""


def declared():
    header, *rows = TABLE.strip().splitlines()
    names = [name for name in header.split("  ") if name.strip()]
    names = [name.strip() for name in names]
    return {row.split()[0]: dict(zip(names, row.split()[1:], strict=True)) for row in rows}


NONE = Bias(*(jnp.float32(0),) * len(Bias._fields))


@jax.jit
def draw(keys, knees, bias):
    return jax.vmap(lambda k, knee: statistics(draw_case(k, knee, bias, size=SIZE, fov_mm=FOV)))(keys, knees)


@functools.cache
def measured(switch):
    """Of 48 knees, each statistic f64[48], the same keys for every switch; `switch` may be None."""
    keys = jax.random.split(jax.random.key(3), 48)
    bias = Bias(*(jnp.float32(name == switch) for name in CASE_SWITCHES))
    return {k: np.asarray(v, float) for k, v in draw(keys, jnp.arange(48) % 2, bias).items()}


# Osteophytes move the area of bone too, and tests/data/phantom/test_phantom_cohort.py draws a smaller bone.
SLOW = {"morphology", "contrast"}


@pytest.mark.parametrize(
    "switch", [pytest.param(name, marks=pytest.mark.slow if name in SLOW else ()) for name in CASE_SWITCHES]
)
def test_a_switch_moves_what_it_must_and_nothing_else(switch):
    plain, biased = measured(None), measured(switch)
    for name, sign in declared()[switch].items():
        change = biased[name] - plain[name]
        # In units of the spread between knees; the keys are the same, so chance plays no part.
        effect = change.mean() / (plain[name].std() + 1e-9)
        if sign in "+-":
            assert effect * {"+": 1, "-": -1}[sign] > 0.12, (name, effect)
            assert stats.ttest_1samp(change, 0).pvalue < 1e-3, name
        elif sign == "0":
            assert abs(effect) < 0.06, (name, effect)


def test_the_table_is_complete():
    assert set(declared()) == set(CASE_SWITCHES) == set(SWITCHES) - {"representation"}
    assert all(set(row) == set(measured(None)) for row in declared().values())


@pytest.mark.slow
def test_annotation_moves_the_contour_by_the_stated_length():
    key, fine = jax.random.key(1), (256, 256)
    draw = jax.jit(lambda a: draw_case(key, 0, Bias(annotation=a), size=fine, fov_mm=140.0))
    half, full = (draw(jnp.float32(strength)) for strength in (0.5, 1.0))
    np.testing.assert_array_equal(half.exact, full.exact)
    np.testing.assert_array_equal(half.image, full.image)
    # By another library: how far each pixel outside of the true patella, which hides all else, is from it.
    spacing = 140 / 256
    distance = distance_transform_edt(np.asarray(full.exact) != 4) * spacing
    for phantom, d in ((half, ANNOTATION_MM / 2), (full, ANNOTATION_MM)):
        annotated = np.asarray(phantom.label) == 4
        assert annotated[distance < d - spacing].all()
        assert not annotated[distance > d + spacing].any()


@pytest.mark.slow
def test_the_marker_is_there_as_often_as_it_should():
    differs = []
    for keys in jax.random.split(jax.random.key(0), (3, 48)):
        plain, marked = (
            draw(keys, jnp.zeros(48, int), NONE._replace(marker=jnp.float32(strength)))["corner"]
            for strength in (0.0, 0.5)
        )
        differs.extend(np.asarray(plain != marked))
    assert stats.binomtest(int(np.sum(differs)), len(differs), 0.5).pvalue > 1e-3


COHORTS, PATIENTS = 1000, 16


def of_pictures(cohort):
    """What can be told of a cohort's pictures, shapes and grades; f64[cases, statistics]."""
    rows = []
    for example, grade in zip(cohort.read(range(PATIENTS)), cohort.cases["kl"], strict=True):
        grey, bone = example.image[:, :, 0].astype(float), example.label > 0
        tissue = ~bone & (grey > 12)
        rough = np.abs(np.diff(grey, axis=1))[bone[:, 1:] & bone[:, :-1]]
        contrast = grey[bone].mean() - grey[tissue].mean()
        rows.append([bone.mean(), int(grade), contrast, rough.mean(), (grey > 12).mean()])
    return np.array(rows)


@pytest.mark.slow
def test_at_strength_0_groups_differ_as_often_as_chance_has_it():
    """A two-sample test at 5 % over 1,000 cohorts."""
    config = {
        "patients": PATIENTS,
        "knees_per_patient": 1,
        "bilateral": False,
        "attributes": {"group": {"A": 0.5, "B": 0.5}},
        "bias": {"group=B": dict.fromkeys(SWITCHES, 0.0)},
        "fov_mm": (FOV, FOV),
        "randomisation": (0.0, 0.0),
        "masks": "annotated",
    }
    pvalues = []
    for seed in range(COHORTS):
        cohort = source(config, size=(24, 24), seed=seed)
        values, of_b = of_pictures(cohort), (cohort.cases["group"] == "B").to_numpy()
        pvalues.append(stats.ttest_ind(values[of_b], values[~of_b], equal_var=False).pvalue)
    for rejected in (np.array(pvalues) < 0.05).sum(axis=0):
        assert stats.binomtest(int(rejected), COHORTS, 0.05).pvalue > 1e-3, rejected
