"""The population of knees: draws lengths, alignment, pose and osteoarthritis of one patient's knee.

Lengths are typical of adults (rounded from anthropometric tables). Spreads are those between people of similar stature;
a factor common to all lengths represents stature itself.
"""

import jax
import jax.numpy as jnp

from kneefair_jax.data.phantom.ranges import Settings
from kneefair_jax.data.phantom.shapes import ANGLES, TEMPLATE, Anatomy

# Standard deviations between patients; mm, degrees. Osteoarthritis and pose add to them.
SPREAD = Anatomy(
    epicondylar_width=2.5,
    epicondyle_height=2,
    notch_width=2,
    notch_depth=2,
    notch_shift=0.7,
    femoral_shaft_width=2,
    femoral_flare=2.5,
    femoral_valgus=2,
    joint_space=0.6,
    plateau_width=2,
    spine_height=1.4,
    tibial_shaft_width=1.8,
    tibial_flare=3.5,
    varus=1.2,
    fibular_head_width=1.8,
    fibular_neck_width=1,
    fibular_head_drop=2.5,
    fibular_shift=1.5,
    patella_width=2.5,
    patella_height=2.5,
    patella_rise=4,
    patella_shift=1.5,
    spur_femur_medial=0,
    spur_femur_lateral=0,
    spur_tibia_medial=0,
    spur_tibia_lateral=0,
)
# The switch `morphology` at full strength: narrow condyles on a sturdy shaft, a deep notch, a narrow plateau with
# tall spines, a small high patella. It is arbitrary and represents no population.
BIASED = TEMPLATE._replace(
    epicondylar_width=70,
    epicondyle_height=23,
    notch_width=17,
    notch_depth=18,
    femoral_shaft_width=32,
    femoral_valgus=1,
    joint_space=7,
    plateau_width=66,
    spine_height=10,
    tibial_shaft_width=32,
    fibular_head_width=18,
    fibular_neck_width=11,
    fibular_head_drop=17,
    patella_width=36,
    patella_height=34,
    patella_rise=40,
)

SIZE_SPREAD = 0.05  # of a factor common to all lengths of a patient
KNEE_SHARE = 0.1  # share of the variance between the two knees of one patient
_CLIP = 2.5  # standard deviations

# Kellgren-Lawrence grades 0 to 4: their shares in a cohort of middle-aged volunteers (about those of the OAI's
# baseline), and their effects: the remaining share of the joint space in the worn compartment, the protrusion of
# osteophytes, and the density of the bone under the cartilage.
GRADE_SHARES = (0.38, 0.18, 0.26, 0.13, 0.05)
GRADE_SHARES_BIASED = (0.0, 0.0, 0.0, 0.5, 0.5)
JOINT_SPACE = (1.0, 0.97, 0.88, 0.5, 0.1, 0.0)  # at each grade's mildest; the next entry is its most severe
SPUR_MM = (0.0, 0.4, 1.2, 2.5, 4.0, 7.0)
SCLEROSIS = (1.0, 1.0, 1.1, 1.4, 1.9, 2.4)


def draw_grade(key: jax.Array, osteophytes: jax.Array | float, width: jax.Array | float) -> jax.Array:
    """Draw a Kellgren-Lawrence grade.

    Args:
        key: the knee's key.
        osteophytes: strength of the switch, which moves the shares from `GRADE_SHARES` to `GRADE_SHARES_BIASED`.
        width: f32[] in [0, 1], from clinical to wide ranges; at 1 all grades are equally frequent.

    Returns:
        i32[], 0 to 4.
    """
    clinical, biased = jnp.array(GRADE_SHARES), jnp.array(GRADE_SHARES_BIASED)
    shares = clinical + width * (0.2 - clinical)
    shares = shares + osteophytes * (biased - shares)
    return jnp.sum(jax.random.uniform(key) > jnp.cumsum(shares)[:-1])


def severity(grade: jax.Array | int, within: jax.Array | float, effect: tuple[float, ...]) -> jax.Array:
    """Return the effect at a place `within` a grade, in [0, 1], linear between the grades' ends."""
    return jnp.interp(grade + jnp.asarray(within), jnp.arange(len(effect)), jnp.array(effect))


def draw_anatomy(
    patient: jax.Array,
    knee: jax.Array,
    grade: jax.Array | int,
    pose: Settings,
    morphology: jax.Array | float = 0.0,
) -> Anatomy:
    """Draw the anatomy of a knee; knees drawn with the same `patient` key differ little.

    Args:
        patient: the key of both knees of the patient.
        knee: the key of this knee.
        grade: i32[], Kellgren-Lawrence, 0 to 4.
        pose: a draw of `ranges.KNEE`.
        morphology: f32[], 0 for the general distribution, 1 for one around `BIASED` with the same spread.
    """
    count = len(TEMPLATE)
    shared = jax.random.normal(patient, (count,))
    length_key, spur_key = jax.random.split(knee)
    individual = jax.random.normal(length_key, (count,))
    spread = jnp.clip(jnp.sqrt(1 - KNEE_SHARE) * shared + jnp.sqrt(KNEE_SHARE) * individual, -_CLIP, _CLIP)
    mean, biased, deviation = (jnp.array(table, jnp.float32) for table in (TEMPLATE, BIASED, SPREAD))
    is_angle = jnp.array([name in ANGLES for name in Anatomy._fields])
    values = mean + morphology * (biased - mean) + pose["spread"] * deviation * spread
    # Wide ranges would make a notch or a joint space negative.
    is_size = (mean > 0) & ~is_angle  # shifts have mean 0
    values = jnp.where(is_size, jnp.maximum(values, 0.35 * mean), values)
    size = 1 + pose["spread"] * SIZE_SPREAD * jnp.clip(
        jax.random.normal(jax.random.fold_in(patient, 1)), -_CLIP, _CLIP
    )
    anatomy = Anatomy(*jnp.where(is_angle, values, values * size))
    return _pose(_wear(anatomy, grade, pose, spur_key), pose)


def _wear(knee: Anatomy, grade: jax.Array | int, pose: Settings, key: jax.Array) -> Anatomy:
    """Apply osteoarthritis: the worn compartment narrows, the leg bends towards it, spurs grow at the margins."""
    remaining = severity(grade, pose["severity"], JOINT_SPACE)
    loss = knee.joint_space * (1 - remaining)
    worn_side = jnp.where(pose["compartment"] < 0, 1.0, -1.0)  # varus where the medial compartment is worn
    # Half of the loss narrows the joint evenly, the other half tilts it about its middle.
    tilt = jnp.rad2deg(jnp.arctan(0.5 * loss / (0.25 * knee.plateau_width)))
    spur = severity(grade, pose["severity"], SPUR_MM) * jax.random.uniform(key, (4,), minval=0.3, maxval=1.3)
    return knee._replace(
        joint_space=knee.joint_space - 0.5 * loss,
        varus=knee.varus + worn_side * tilt,
        spine_height=knee.spine_height + 0.3 * spur.mean(),
        spur_femur_medial=spur[0],
        spur_femur_lateral=spur[1],
        spur_tibia_medial=spur[2],
        spur_tibia_lateral=spur[3],
    )


def _pose(knee: Anatomy, pose: Settings) -> Anatomy:
    """Apply rotation and flexion, as a postero-anterior projection shows them.

    As the leg turns outwards, structures in front of the knee's axis (the patella, some 40 mm) move outwards, and
    structures behind it (the notch, 15 mm; the fibula's head, 25 mm) move inwards. Flexion turns the notch to the
    detector and lowers the patella.
    """
    outwards = jnp.sin(jnp.deg2rad(pose["rotation"]))
    flexion = jnp.deg2rad(pose["flexion"])
    return knee._replace(
        patella_shift=knee.patella_shift + 40 * outwards,
        notch_shift=knee.notch_shift - 15 * outwards,
        fibular_shift=knee.fibular_shift - 25 * outwards,
        notch_depth=knee.notch_depth * (0.75 + 0.9 * jnp.sin(jnp.maximum(flexion, 0))),
        epicondyle_height=knee.epicondyle_height * jnp.cos(0.7 * flexion),
        patella_rise=knee.patella_rise - 20 * jnp.sin(flexion) + 4,
    )
