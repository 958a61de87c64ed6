"""The benchmark runs, and what it compares is the same training."""

import pytest

from benchmarks import vmapped


@pytest.mark.slow
def test_models_trained_at_once_are_those_trained_in_turns(monkeypatch):
    monkeypatch.setattr(vmapped, "WIDTHS", (2, 4))
    found = vmapped.measure(2, 8, 4, rounds=2, updates=1)
    assert found["vmap_speed_up"] > 0
    assert (
        found["largest_difference_of_a_parameter"] < 2e-3
    )  # Adam's first step is of 1e-3 whatever the gradient
