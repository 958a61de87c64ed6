import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kneefair_jax.data.phantom import population, ranges, shapes
from kneefair_jax.data.phantom.shapes import signed_distance

# No osteoarthritis, no rotation, and the flexion at which the notch has its own depth.
STILL = {"spread": 1.0, "severity": 0.0, "compartment": -1.0, "rotation": 0.0, "flexion": 0.0}


def draw(count, morphology=0.0, grade=0, seed=1, **pose):
    keys = jax.random.split(jax.random.key(0), count)
    knees = jax.random.split(jax.random.key(seed), count)
    return jax.vmap(lambda k, knee: population.draw_anatomy(k, knee, grade, STILL | pose, morphology))(
        keys, knees
    )


@pytest.mark.parametrize(("morphology", "table"), [(0.0, shapes.TEMPLATE), (1.0, population.BIASED)])
def test_lengths_have_the_stated_means(morphology, table):
    anatomy = draw(4000, morphology)
    # What a pose changes even at 0 degrees: the notch is seen 0.75 as deep, the patella 4 mm higher.
    expected = table._replace(notch_depth=0.75 * table.notch_depth, patella_rise=table.patella_rise + 4)
    for name, values, mean in zip(shapes.Anatomy._fields, anatomy, expected, strict=True):
        assert np.mean(values) == pytest.approx(mean, rel=0.05, abs=0.15), name


def test_lengths_have_the_stated_spread():
    width = np.asarray(draw(4000).epicondylar_width)
    # Of the length itself and of the size common to all: 2.5 mm and 5 % of 82 mm, both cut at 2.5 deviations.
    assert width.std() == pytest.approx(np.hypot(2.5, 0.05 * 82), rel=0.06)


def test_two_knees_of_a_patient_are_alike():
    one, other = draw(2000), draw(2000, seed=2)
    assert 0.85 < np.corrcoef(one.notch_depth, other.notch_depth)[0, 1] < 0.99


def test_grades_have_their_shares():
    keys = jax.random.split(jax.random.key(5), 20_000)
    for osteophytes, width, shares in (
        (0.0, 0.0, population.GRADE_SHARES),
        (1.0, 0.0, population.GRADE_SHARES_BIASED),
        (0.0, 1.0, (0.2,) * 5),
        (0.5, 0.0, np.add(population.GRADE_SHARES, population.GRADE_SHARES_BIASED) / 2),
    ):
        grades = jax.vmap(lambda k, o=osteophytes, w=width: population.draw_grade(k, o, w))(keys)
        np.testing.assert_allclose(np.bincount(grades, minlength=5) / len(keys), shares, atol=0.012)


def test_severity_is_linear_within_a_grade():
    assert population.severity(3, 0.0, population.SPUR_MM) == pytest.approx(2.5)
    assert population.severity(3, 0.5, population.SPUR_MM) == pytest.approx(3.25)
    assert population.severity(4, 1.0, population.SPUR_MM) == pytest.approx(7.0)


def test_a_worn_joint_narrows_on_its_side():
    """The gap on each side, from femoral condyle to plateau at a quarter of the plateau's width."""
    for compartment, worn, other in ((-1.0, "medial", "lateral"), (1.0, "lateral", "medial")):
        healthy, diseased = (draw(300, grade=g, compartment=compartment) for g in (0, 4))

        def gaps(knee):
            tilt = jnp.tan(jnp.deg2rad(knee.varus)) * 0.25 * knee.plateau_width
            return {"medial": knee.joint_space - tilt, "lateral": knee.joint_space + tilt}

        remaining = np.mean(gaps(diseased)[worn] / gaps(healthy)[worn])
        assert remaining == pytest.approx(population.JOINT_SPACE[4], abs=0.12)
        assert np.mean(gaps(diseased)[other] - gaps(healthy)[other]) == pytest.approx(0, abs=0.2)
        assert (np.asarray(diseased.spur_tibia_medial) > 0).all() and not np.asarray(
            healthy.spur_tibia_medial
        ).any()


def test_rotation_moves_front_and_back_apart():
    straight, outwards = draw(10), draw(10, rotation=10.0)
    np.testing.assert_allclose(
        outwards.patella_shift - straight.patella_shift, 40 * np.sin(np.pi / 18), rtol=1e-4
    )
    assert (outwards.fibular_shift < straight.fibular_shift).all()


@pytest.mark.slow
def test_bones_of_a_healthy_knee_do_not_collide():
    @jax.jit
    @jax.vmap
    def overlap(key, morphology):
        at = jnp.arange(-70.0, 70.0, 1.0)
        pose = ranges.draw(jax.random.fold_in(key, 1), ranges.KNEE, 0.0)
        knee = population.draw_anatomy(key, jax.random.fold_in(key, 2), 0, pose, morphology)
        bones = shapes.contours(knee, key, 0.5, 0.0)
        femur, tibia, fibula = (signed_distance(bone, at, at) > 0 for bone in bones[:3])
        return (femur & tibia).sum(), (femur & fibula).sum(), (tibia & fibula).sum(), fibula.sum()

    biases = jnp.repeat(jnp.array([0.0, 1.0]), 40)
    tibia, fibula, hidden, total = overlap(jax.random.split(jax.random.key(3), 80), biases)
    assert (tibia <= 3).all() and not fibula.any()  # the spines may reach into the notch's mouth
    # The fibula's head lies partly behind the tibia.
    assert ((hidden > 0) & (hidden < 0.5 * total)).mean() > 0.85
