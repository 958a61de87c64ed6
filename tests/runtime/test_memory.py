import pytest

from kneefair_jax import models
from kneefair_jax.errors import InputError
from kneefair_jax.models import memory as network_memory
from kneefair_jax.runtime import memory


def test_more_memory_than_there_is_is_refused(monkeypatch):
    assert memory.host_bytes() > 2**28 and memory.device_bytes() > 2**28
    monkeypatch.setattr(memory, "host_bytes", lambda: 2**30)
    memory.require(2**30, "x", "y")
    with pytest.raises(InputError, match="x: this needs about 1.5 GiB of memory, and 1 GiB are available; y"):
        memory.require(3 * 2**29, "x", "y")


def test_the_estimate_is_worked_out_by_hand():
    """One level, one convolution of 2 channels, 2 classes: conv, norm, block, head and the whole, f32 of 8 x 8 x 2."""
    model = models.create({"name": "unet", "widths": (2,), "convolutions": 1, "norm": "group"}, classes=2)
    one = 8 * 8 * 2 * 4
    assert network_memory.inference_bytes(model, (8, 8, 1)) == 5 * one
    # Convolution, GroupNorm and the module around it, block, deepest, head, network.
    assert network_memory.training_bytes(model, (8, 8, 1)) == 7 * one * 9 // 10
    assert network_memory.training_bytes(model, (16, 16, 1)) == 4 * 7 * one * 9 // 10
