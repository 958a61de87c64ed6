"""Online cases: a function of stage, seed, step and position, of the population that the stored cohort has."""

import jax
import numpy as np
import pytest
from ml_collections import ConfigDict

from kneefair_jax.data.phantom import Bias, Phantom, draw_case, source
from kneefair_jax.data.phantom import cohort as phantom_cohort
from kneefair_jax.data.phantom.case import CASE_SWITCHES
from kneefair_jax.data.phantom.cohort import ONLINE_STREAM

SIZE = (16, 16)
SETTINGS = {
    "patients": 12,
    "knees_per_patient": 2,
    "bilateral": False,
    "attributes": {"race": {"A": 0.5, "B": 0.5}},
    "bias": {"race=B": {"annotation": 1.0, "contrast": 0.5}},
    "fov_mm": (100.0, 200.0),
    "randomisation": (0.2, 0.8),
    "masks": "annotated",
    "online": True,
}


def cohort(**changes):
    return source(ConfigDict(SETTINGS | changes), size=SIZE, seed=3)


def draw(seed, step, positions, rows, stage=0):
    """Image and label of positions in a batch, of rows of the table."""
    inputs = cohort().online.inputs(cohort().cases)
    batch = {name: values[np.asarray(rows)] for name, values in inputs.items()}
    batch["position"] = np.asarray(positions, np.int32)
    after = jax.jit(cohort().online.draw, static_argnums=0)(stage, np.uint32(seed), np.int32(step), batch)
    return np.asarray(after["image"]), np.asarray(after["label"])


def noise(key, case, layout):
    """A case that takes no time to compile."""
    image = jax.random.bits(key, layout.size, np.uint8)
    return Phantom(image, image % 5, image % 3, case.grade, np.ones(2))


def test_the_population_is_that_of_the_table():
    cases, inputs = cohort().cases, cohort().online.inputs(cohort().cases)
    of_b = (cases["race"] == "B").to_numpy()
    assert 0 < of_b.sum() < len(cases)
    expected = np.zeros((len(cases), len(CASE_SWITCHES)), np.float32)
    expected[of_b, CASE_SWITCHES.index("annotation")] = 1.0
    expected[of_b, CASE_SWITCHES.index("contrast")] = 0.5
    np.testing.assert_array_equal(inputs["bias"], expected)
    np.testing.assert_array_equal(inputs["knee"], cases["side"] == "left")


def test_drawn_columns_are_those_that_the_seed_changes():
    settings = ConfigDict(SETTINGS | {"attributes": {}, "bias": {}})
    one, other = (source(settings, size=SIZE, seed=seed) for seed in (3, 4))
    changed = {name for name in one.cases if not one.cases[name].equals(other.cases[name])}
    assert changed == set(one.online.redrawn)


def test_a_case_is_a_function_of_stage_seed_step_and_position(monkeypatch):
    monkeypatch.setattr(phantom_cohort, "_draw", noise)
    rows = [0, 1, 2, 3]
    image, label = draw(7, 5, [0, 1, 2, 3], rows)
    reversed_image, reversed_label = draw(7, 5, [3, 2, 1, 0], rows[::-1])
    np.testing.assert_array_equal(reversed_image[::-1], image)
    np.testing.assert_array_equal(reversed_label[::-1], label)
    same_row = draw(7, 5, [0, 1, 2, 3], [0, 0, 0, 0])[0]
    assert len({one.tobytes() for one in same_row}) == 4
    variants = ((8, 5, 0), (7, 6, 0), (7, 5, 1))  # another seed, step or stage
    for other in (draw(seed, step, [0, 1, 2, 3], rows, stage) for seed, step, stage in variants):
        assert all((a != b).any() for a, b in zip(image, other[0], strict=True))


@pytest.mark.slow
def test_a_case_is_drawn_as_a_stored_one():
    """By hand: the key, then field of view and width as the cohort draws them, then `draw_case`."""
    cases = cohort().cases
    row = int(np.flatnonzero((cases["race"] == "B") & (cases["side"] == "left"))[0])
    image, label = draw(7, 5, [2, 9, 4, 6], [row] * 4)
    key = jax.random.key(3)
    for part in (ONLINE_STREAM, 7, 5, 9):
        key = jax.random.fold_in(key, part)
    width, place = jax.random.uniform(jax.random.fold_in(jax.random.fold_in(key, 5), 1), (2,))
    case = jax.jit(
        lambda: draw_case(
            key,
            1,
            Bias(annotation=1.0, contrast=0.5),
            size=SIZE,
            fov_mm=100 * 2**place,
            width=0.2 + 0.6 * width,
        )
    )()
    assert np.abs(image[1, :, :, 0].astype(int) - np.asarray(case.image)).max() <= 1
    np.testing.assert_array_equal(label[1], case.label)
    assert (np.asarray(case.label) != np.asarray(case.exact)).any()
