"""Training within a limit of time: the schedule ends with it, whatever a step takes."""

import itertools
import json
import sys

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
        self.record = {"curve": [], "stages": []}

    def log(self, text):
        pass


def test_a_stage_ends_in_time_and_its_rates_follow_the_clock(monkeypatch):
    rates, saved, now = [], [], [100.0]
    monkeypatch.setattr(phantom_weights.time, "monotonic", lambda: now[0])

    def program(current, rate):
        now[0] += 0.02
        rates.append(np.asarray(rate))
        return current._replace(step=current.step + len(rate)), jnp.ones(len(rate))

    stage, recorder = phantom_weights.Stage(16, 4, 5, 1.0), Recorder()
    clock = phantom_weights.Clock(100.0, 101.0)
    state = TrainState(0, 0, {}, {}, (), ())
    ended = phantom_weights.run_stage(
        program, stage, state, 2.0, clock, clock.end, recorder, itertools.count(), saved.append
    )
    assert 100.94 < now[0] < 101.0
    assert ended.step == 5 * len(rates) == recorder.record["stages"][0]["steps"]
    assert recorder.record["stages"][0]["cases"] == 4 * ended.step
    assert saved == [ended] and len(recorder.record["curve"]) == len(rates) - 1
    np.testing.assert_allclose(
        np.concatenate(rates)[-1], np.square(np.sin(0.5 * np.pi * 0.01)) * 2, atol=0.02
    )
    assert max(map(max, rates)) > 1.95


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
    assert [entry["steps"] for entry in record["stages"]] == [4, 4] and len(record["scores"]) >= 4
    network = weights.load(tmp_path / "phantom.safetensors")
    assert network.about["step"] == 8 and network.about["grid"] == [32, 32, 1]
