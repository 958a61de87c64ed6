"""Differences between devices are measured; what is computed without `jit` is the same."""

import jax
import numpy as np
import pytest

from benchmarks import device_agreement
from benchmarks.device_agreement import Difference, Sizes

SMALL = Sizes(side=16, batch_size=2, widths=(2, 4), steps=2)


def test_relative_difference():
    assert device_agreement.relative([1.0, np.array([2.0, -4.0])], [1.5, np.array([2.0, -5.0])]) == 1 / 3
    assert device_agreement.relative(np.array([np.nan, 1.0]), np.array([np.nan, 1.0])) == 0
    assert device_agreement.relative(np.array([np.nan]), np.array([1.0])) == np.inf


def test_share_of_unequal_entries():
    a, b = np.array([0, 255, 7, 7], np.uint8), np.array([1, 0, 7, 9], np.uint8)
    assert device_agreement.share_unequal(a, b) == 0.75
    assert device_agreement.share_unequal(a, b, tolerance=1) == 0.5


def test_nan_does_not_agree():
    assert not Difference("loss", float("nan"), 1.0).agrees
    assert Difference("loss", 0.5, 0.5).agrees


def test_both_evaluates_with_and_without_jit():
    traced = []

    def function(x):
        traced.append(isinstance(x, jax.core.Tracer))
        return 2 * x

    actual, reference = device_agreement.run_and_reference(SMALL, function, np.arange(3.0, dtype=np.float32))
    np.testing.assert_array_equal(actual, [0, 2, 4])
    np.testing.assert_array_equal(reference, [0, 2, 4])
    assert traced == [True, False]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["objectives", "scores", "augmentation"])
def test_compiled_code_agrees_with_the_same_code_without_jit(name):
    assert not [d for d in device_agreement.compare(name, SMALL) if not d.agrees]
