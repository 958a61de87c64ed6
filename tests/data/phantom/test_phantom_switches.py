"""What each switch moves and what it leaves alone; and that without switches nothing tells groups apart."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from kneefair_jax.data.phantom import Bias, draw_case, source
from kneefair_jax.data.phantom.bias import ANNOTATION_MM, CASE_SWITCHES, SWITCHES

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

    return {
        "bone area": bone.mean(),
        "grade": phantom.grade.max().astype(jnp.float32),
        "contour": (phantom.label > 0).mean() - bone.mean(),
        "bone contrast": mean(grey, bone) - mean(grey, tissue),
        "roughness": mean(jnp.abs(jnp.diff(grey, axis=1)), within),
        "limb": (grey > 12).mean(),
        "corner": grey[:12, :12].max(),
    }


# Y: moves, n: does not, -: may. Less mineral lets more of the beam through, so contrast moves the noise; a wider limb
# fills more of the picture and scatters more; other bones and worn joints are other pictures too.
TABLE = """
               bone area  grade  contour  bone contrast  roughness  limb  corner
morphology     Y          n      n        -              -          n     n
contrast       n          n      n        Y              Y          n     n
noise          n          n      n        -              Y          -     -
soft_tissue    n          n      n        -              -          Y     -
osteophytes    Y          Y      n        -              -          n     n
annotation     n          n      Y        n              n          n     n
marker         n          n      n        -              n          -     Y
"""


def declared():
    header, *rows = TABLE.strip().splitlines()
    names = [name for name in header.split("  ") if name.strip()]
    names = [name.strip() for name in names]
    return {row.split()[0]: dict(zip(names, row.split()[1:], strict=True)) for row in rows}


@jax.jit
def draw(keys, knees, bias):
    return jax.vmap(lambda k, knee: statistics(draw_case(k, knee, bias, size=SIZE, fov_mm=FOV)))(keys, knees)


@functools.cache
def measured(switch):
    """Of 48 knees, each statistic f64[48], the same keys for every switch; `switch` may be None."""
    keys = jax.random.split(jax.random.key(3), 48)
    bias = Bias(*(jnp.float32(name == switch) for name in CASE_SWITCHES))
    return {k: np.asarray(v, float) for k, v in draw(keys, jnp.arange(48) % 2, bias).items()}


@pytest.mark.parametrize("switch", CASE_SWITCHES)
def test_a_switch_moves_what_it_must_and_nothing_else(switch):
    plain, biased = measured(None), measured(switch)
    for name, moves in declared()[switch].items():
        change = biased[name] - plain[name]
        effect = abs(change.mean()) / (plain[name].std() + 1e-9)
        # In units of the spread between knees; the keys are the same, so chance plays no part.
        if moves == "Y":
            assert effect > 0.2, (switch, name, effect)
            assert stats.ttest_1samp(change, 0).pvalue < 1e-4
        elif moves == "n":
            assert effect < 0.1, (switch, name, effect)


def test_the_table_is_complete():
    assert set(declared()) == set(CASE_SWITCHES) == set(SWITCHES) - {"representation"}
    assert all(set(row) == set(measured(None)) for row in declared().values())


def test_annotation_moves_the_contour_by_the_stated_length():
    key, fine = jax.random.key(1), (256, 256)
    draw = jax.jit(lambda a: draw_case(key, 0, Bias(annotation=a), size=fine, fov_mm=140.0))
    half, full = (draw(jnp.float32(strength)) for strength in (0.5, 1.0))
    np.testing.assert_array_equal(half.exact, full.exact)
    np.testing.assert_array_equal(half.image, full.image)
    # The patella lies inside the femur, so that its outline is free all around: area grows by perimeter x d + pi d^2.
    exact, spacing = np.asarray(full.exact) == 4, 140 / 256
    inner = exact[1:-1, 1:-1] & exact[:-2, 1:-1] & exact[2:, 1:-1] & exact[1:-1, :-2] & exact[1:-1, 2:]
    perimeter = 0.5 * np.pi / 2 * (exact.sum() - inner.sum()) * spacing * 1.41
    for phantom, d in ((half, ANNOTATION_MM / 2), (full, ANNOTATION_MM)):
        grown = ((np.asarray(phantom.label) == 4).sum() - exact.sum()) * spacing**2
        assert grown == pytest.approx(perimeter * d + np.pi * d**2, rel=0.15)


def test_the_marker_is_there_as_often_as_it_should():
    keys = jax.random.split(jax.random.key(0), 200)

    @jax.jit
    def corner(strength):
        draw = lambda key: draw_case(key, 0, Bias(marker=strength), size=(24, 24), fov_mm=FOV).image[:4, :4]
        return jax.vmap(draw)(keys)

    differs = (np.asarray(corner(0.5)) != np.asarray(corner(0.0))).any(axis=(1, 2))
    assert stats.binomtest(int(differs.sum()), 200, 0.5).pvalue > 1e-3


COHORTS, PATIENTS = 1000, 24


def test_without_bias_groups_differ_as_often_as_chance_has_it():
    """A two-sample test at 5 % over 1,000 cohorts, on statistics of pictures and of shapes."""
    config = {
        "patients": PATIENTS,
        "knees_per_patient": 1,
        "bilateral": False,
        "attributes": {"group": {"A": 2 / 3, "B": 1 / 3}},
        "bias": {"group=B": dict.fromkeys(SWITCHES, 0.0)},
        "fov_mm": (FOV, FOV),
        "randomisation": (0.0, 0.0),
        "masks": "annotated",
    }
    size = (24, 24)
    of_b = np.array(
        [(source(config, size=size, seed=c).cases["group"] == "B").to_numpy() for c in range(COHORTS)]
    )

    @jax.jit
    def cohort(seed):
        def one(patient):
            key = jax.random.fold_in(jax.random.key(seed), patient)
            drawn = statistics(draw_case(key, patient % 2, size=size, fov_mm=FOV))
            return jnp.stack(
                [drawn[name] for name in ("bone area", "grade", "bone contrast", "roughness", "limb")]
            )

        return jax.vmap(one)(jnp.arange(PATIENTS))

    values = np.array([cohort(jnp.uint32(c)) for c in range(COHORTS)])  # [cohort, patient, statistic]
    for k in range(values.shape[2]):
        rejected = sum(
            stats.ttest_ind(values[c, of_b[c], k], values[c, ~of_b[c], k], equal_var=False).pvalue < 0.05
            for c in range(COHORTS)
        )
        assert stats.binomtest(int(rejected), COHORTS, 0.05).pvalue > 1e-3, (k, rejected)
