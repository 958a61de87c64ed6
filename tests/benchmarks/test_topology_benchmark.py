"""What devices send each other, read from modules written here and from one compiled for eight CPU devices."""

import jax
import numpy as np

from benchmarks import topology

MODULE = """
  %a = f32[4]{0} parameter(0)
  %b = (f32[3,3,1,8]{3,2,1,0:T(8,128)S(1)}, /*index=1*/bf16[8]{0}) all-reduce(%x, %y), channel_id=1, to_apply=%sum
  %c = f32[8]{0} all-reduce-start(%z), channel_id=2
  %d = f32[8]{0} all-reduce-done(%c)
  %e = s32[16,2]{1,0} all-gather(%w), dimensions={0}
  %f = f32[] add(%g, %h), metadata={op_name="all-reduce(psum)"}
"""


def test_each_collective_of_a_module_is_counted_once():
    moves = topology.collectives(MODULE)
    assert [(move["kind"], move["bytes"]) for move in moves] == [
        ("all-reduce", 72 * 4 + 8 * 2),
        ("all-reduce", 32),
        ("all-gather", 128),
    ]
    found = topology.summary(moves)
    assert found["gradients"] == {"all_reduces": 1, "bytes": 304}
    assert found["statistics_and_sums"] == {"all_reduces": 1, "bytes": 32}
    assert [move["kind"] for move in found["other"]] == ["all-gather"]


def test_a_step_sums_each_gradient_once_and_sends_no_activation():
    compiled, size = topology.compiled_step(np.array(jax.devices()), norm="batch", side=16, widths=(8,))
    found = topology.summary(topology.collectives(compiled.as_text()))
    assert not found["other"]
    # XLA puts a few sums beside the gradients, and vectors among the gradients beside other sums.
    vectors = 4 * (4 * 8 + 5)  # two normalisations' scale and bias, the head's bias
    assert size - vectors <= found["gradients"]["bytes"] <= size + 256
    # Statistics: two vectors a normalisation, forward and backward.
    assert found["statistics_and_sums"]["bytes"] <= vectors + 2 * 2 * 2 * 4 * 8 + 256
