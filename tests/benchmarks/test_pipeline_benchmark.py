"""The benchmark runs; what it measures is in benchmarks/results."""

import numpy as np
import pytest

from benchmarks import pipeline
from tests.training import study


def saved(folder, count):
    examples = [study.example(row) for row in range(count)]
    np.save(folder / "image.npy", np.stack([example.image for example in examples]))
    np.save(folder / "label.npy", np.stack([example.label for example in examples]))
    return pipeline.Mapped(folder)


def test_throughput(tmp_path):
    cases = saved(tmp_path, 12)
    found = pipeline.throughput(cases, tmp_path, 4, rounds=2, epochs=2, torch_python=None)
    assert len(found["cases_per_second"]) == 4 and len(found["ratios"]) == 3
    assert all(rate > 0 for rate in found["cases_per_second"].values())
    assert all(len(rates) == 2 for rates in found["rounds"].values())


def test_every_loader_gives_every_case_once_an_epoch(tmp_path):
    cases = saved(tmp_path, 12)
    batches = list(pipeline.plain(cases, 4, 2))
    rows = np.concatenate([batch["case"] for batch in batches]).reshape(2, 12)
    np.testing.assert_array_equal(np.sort(rows, axis=1), [np.arange(12)] * 2)
    for batch in batches:
        np.testing.assert_array_equal(
            batch["image"], np.stack([cases[row]["image"] for row in batch["case"]])
        )


@pytest.mark.slow
def test_waiting(tmp_path):
    found = pipeline.waiting(study.config(), study.cohort(), saved(tmp_path, 40), rounds=2, steps=2)
    assert 0 < found["share"] < 1 and found["step_milliseconds"] > 0
