import jax
import numpy as np
import pandas as pd
import pytest

from kneefair_jax import groups
from kneefair_jax.data import store
from kneefair_jax.training import scoring, sharding
from tests.training import study


def test_every_row_in_order_whatever_the_padding(tmp_path):
    cohort = study.cohort()
    cases = store.prepare(cohort.source, cohort.grid, tmp_path)
    rows = np.array([5, 3, 8, 1, 39])
    step = jax.jit(lambda variables, batch: {"mean": batch["image"].mean((1, 2, 3)) + variables})
    two = jax.device_put(2.0, sharding.replicated(sharding.data_mesh()))
    result = scoring.over_cases(step, two, cases, rows, batch_size=8, mesh=sharding.data_mesh())
    expected = [study.example(row).image.mean() + 2 for row in rows]
    np.testing.assert_allclose(result["mean"], expected, rtol=1e-5)


@pytest.mark.parametrize(("devices", "batch_size"), [(1, 1), (1, 7), (2, 6), (4, 4), (8, 16), (8, 64)])
def test_every_case_once_whatever_the_batch_size_and_the_number_of_devices(devices, batch_size):
    """The trap: a last batch that is dropped, or counted with its padding."""
    images = np.random.default_rng(0).integers(0, 256, (23, 4, 4, 1), np.uint8)
    cases = [{"image": image, "label": image[..., 0], "spacing": np.ones(2, np.float32)} for image in images]
    mesh = jax.sharding.Mesh(np.array(jax.devices()[:devices]), (sharding.AXIS,))
    step = lambda variables, batch: {
        "sum": batch["image"].astype(np.int32).sum((1, 2, 3)),
        "case": batch["case"],
    }
    rows = np.arange(23)[::-1]
    result = scoring.over_cases(step, None, cases, rows, batch_size=batch_size, mesh=mesh)
    np.testing.assert_array_equal(result["case"], rows)
    np.testing.assert_array_equal(result["sum"], images.astype(int).sum((1, 2, 3))[rows])


def test_distances_of_each_case_with_its_own_spacing():
    prediction, label = np.zeros((2, 3, 8, 8), np.uint8)
    prediction[:, 2, 5], label[:, 2, 3] = 1, 1
    spacings = [[1, 1], [1, np.nan], [1, 0.25]]
    cases = [{"label": label[k], "spacing": np.array(spacings[k], np.float32)} for k in range(3)]
    scores = scoring.surface_distances(prediction, cases, np.array([2, 0, 1]), 2)
    np.testing.assert_allclose(scores["hd95_mm"], [[0.5, np.nan], [2, np.nan], [np.nan] * 2])
    np.testing.assert_allclose(scores["nsd"], [[1, np.nan], [0, np.nan], [np.nan] * 2])


def test_distances_leave_void_out_of_both_masks():
    label, prediction = np.zeros((2, 1, 8, 8), np.uint8)
    label[0, 2:6, 1:4], prediction[0, 2:6, 1:6], prediction[0, 7, 7] = 1, 1, 2
    label[0, :, 4:] = 255
    cases = [{"label": label[0], "spacing": np.ones(2, np.float32)}]
    scores = scoring.surface_distances(prediction, cases, np.array([0]), 2)
    np.testing.assert_array_equal(scores["hd95_mm"], [[0, np.nan]])
    np.testing.assert_array_equal(scores["nsd"], [[1, np.nan]])


def test_means_over_patients_not_cases():
    cases = pd.DataFrame(
        {"patient_id": ["p", "p", "q", "r"], "sex": groups.categorical(pd.Series(list("aaab")))}
    )
    dice = np.array([[1.0, 0.0], [0.5, np.nan], [0.2, 0.4], [np.nan, np.nan]])
    partition = groups.partition(cases, ["sex"])
    table = scoring.group_table(dice, cases, partition, ["x", "y"])
    # p: x .75, y 0, macro (.5 + .5) / 2; q: .2, .4, .3; r has neither structure.
    np.testing.assert_allclose(table.loc["sex=a"], [2, 3, 0.4, 0.475, 0.2])
    np.testing.assert_allclose(table.loc["all"], [3, 4, 0.4, 0.475, 0.2])
    assert np.isnan(table.loc["sex=b", "dice"])
