"""Training within a limit of time: the schedule ends with it, whatever a step takes."""

import itertools
import json
import sys
import time

import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks import phantom_weights
from kneefair_jax import weights
from kneefair_jax.training.state import TrainState


def test_learning_rate():
    progress = np.array([-0.1, 0.0, 0.01, 0.5, 1.0, 1.1])
    expected = [0, 0, 0.5 * 0.5 * (1 + np.cos(0.01 * np.pi)) * 2, 1, 0, 0]
    np.testing.assert_allclose(phantom_weights.learning_rate(progress, 2.0), expected, atol=1e-6)


class Recorder:
    def __init__(self):
        self.record, self.saved = {"curve": [], "stages": []}, 0

    def say(self, text):
        pass

    def write_weights(self, current, side):
        self.saved += 1


def test_a_stage_ends_in_time_and_its_rates_follow_the_clock():
    rates = []

    def program(current, given):
        time.sleep(0.02)
        rates.append(np.asarray(given))
        return current._replace(step=current.step + len(given)), jnp.ones(len(given))

    stage, recorder = phantom_weights.Stage(16, 4, 5, 1.0), Recorder()
    start = time.monotonic()
    clock = phantom_weights.Clock(start, start + 1.0)
    state = TrainState(0, 0, {}, {}, (), ())
    ended = phantom_weights.run_stage(
        program, stage, state, 2.0, clock, clock.end, recorder, itertools.count()
    )
    assert 0.5 < time.monotonic() - start < 1.5
    assert ended.step == 5 * len(rates) == recorder.record["stages"][0]["steps"]
    assert recorder.record["stages"][0]["cases"] == 4 * ended.step
    assert recorder.saved == 1 and len(recorder.record["curve"]) == len(rates) - 1
    assert rates[-1][-1] < 0.1 and max(map(max, rates)) > 1.5


def test_a_loss_that_is_not_finite_ends_training():
    with pytest.raises(SystemExit, match="not finite"):
        phantom_weights._record_loss(Recorder(), phantom_weights.SMOKE[0], 2, np.full(2, np.nan))


@pytest.mark.slow
def test_smoke(tmp_path, monkeypatch):
    monkeypatch.setattr(
        sys, "argv", ["phantom_weights.py", "--smoke", "--out", str(tmp_path), "--minutes", "60"]
    )
    phantom_weights.main()
    record = json.loads((tmp_path / "training.json").read_text())
    assert [entry["steps"] for entry in record["stages"]] == [4, 4] and len(record["scores"]) == 4
    network = weights.load(tmp_path / "phantom.safetensors")
    assert network.about["step"] == 8 and network.about["grid"] == [32, 32, 1]
