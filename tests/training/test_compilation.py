"""What a step says of itself, and that a compilation too many is noticed."""

import contextlib

import jax
import jax.numpy as jnp

from kneefair_jax.training import compilation


def test_the_cost_of_a_product_is_what_it_is_by_hand():
    square = jax.ShapeDtypeStruct((1024, 1024), jnp.float32)
    text = compilation.cost(jax.jit(jnp.dot).lower(square, square).compile())
    # 2 x 1024^3 operations on two arrays of 4 MiB.
    assert text.startswith("a step on each device: 2.15 GFLOP, ")
    assert text.endswith(" MiB of temporaries, 8 MiB of arguments")


def test_a_compilation_after_the_first_evaluation_is_told_of(capsys):
    with contextlib.closing(compilation.Compilations()) as compilations:
        double = jax.jit(lambda x: 2 * x)
        double(jnp.ones(3))
        compilations.tell(10)
        double(jnp.ones(3))
        compilations.tell(20)
        before = compilations.count
        assert before > 0 and not capsys.readouterr().out
        four = jnp.ones(4)
        double(four)
        assert compilations.count > before
        compilations.tell(30)
        assert "compiled again by step 30" in capsys.readouterr().out
    count = compilations.count
    double(jnp.ones(5))
    assert compilations.count == count
