"""Gradient accumulation: a batch as micro-batches, one after another, for a batch that exceeds the memory.

The weights of all examples must be known before the first micro-batch, so only objectives whose weights do not depend
on the losses (`mitigation.LINEAR`) work. Then the gradients of the micro-batches add up to that of the whole batch.
Batch normalization normalizes each micro-batch by its own statistics, which are of fewer cases, as on a smaller batch.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from kneefair_jax import mitigation
from kneefair_jax.errors import InputError

# `(params, batch_stats, examples) -> (value f32[], (outputs per example, batch_stats))`.
Function = Callable[[Any, Any, Any], tuple[jax.Array, tuple[Any, Any]]]


def check(micro_batches: int, objective: str, batch_size: int, devices: int) -> None:
    """Refuse an objective that needs the losses of the whole batch, and a batch that cannot be divided evenly.

    Args:
        micro_batches: `train.accumulation`.
        objective: a key of `mitigation.OBJECTIVES`.
        batch_size: of the global batch.
        devices: number of devices that share it.

    Raises:
        InputError: with the remedy.
    """
    if micro_batches == 1:
        return
    if objective not in mitigation.LINEAR:
        raise InputError(
            f"config.train.accumulation={micro_batches}: the weights of objective {objective!r} depend on the losses "
            "of the whole batch, which are unknown until its last micro-batch; give 1, or set "
            f"mitigation.objective.name to one of {', '.join(sorted(mitigation.LINEAR))}"
        )
    if batch_size % (micro_batches * devices):
        raise InputError(
            f"config.train.accumulation={micro_batches}: a batch of {batch_size} on {devices} "
            f"device{'s' * (devices != 1)} cannot be divided into {micro_batches} equal micro-batches; give a "
            f"train.batch_size that is a multiple of {micro_batches * devices}"
        )


def split(tree: Any, micro_batches: int) -> Any:
    """Split arrays [B, ...] into [N, B / N, ...]; each of the N micro-batches takes every N-th example.

    So each device already has its share of every micro-batch, and nothing moves between devices.
    """
    return jax.tree.map(lambda x: x.reshape(-1, micro_batches, *x.shape[1:]).swapaxes(0, 1), tree)


def join(tree: Any) -> Any:
    """Join micro-batches again: the inverse of `split`."""
    return jax.tree.map(lambda x: x.swapaxes(0, 1).reshape(-1, *x.shape[2:]), tree)


def gradient(
    function: Function, params: Any, batch_stats: Any, examples: Any, micro_batches: int
) -> tuple[Any, tuple[Any, Any]]:
    """Return the gradient of a sum over examples, with one micro-batch in memory at a time.

    Args:
        function: to differentiate by its first argument.
        params: where to take the gradient.
        batch_stats: running statistics; each micro-batch starts from those after the one before it.
        examples: arrays [B, ...], B a multiple of `micro_batches`.
        micro_batches: N; 1 is the plain gradient.

    Returns:
        The gradient, and (the function's outputs per example, in the order of `examples`; batch statistics).
    """
    derivative = jax.grad(function, has_aux=True)
    if micro_batches == 1:
        full: tuple[Any, tuple[Any, Any]] = derivative(params, batch_stats, examples)
        return full

    def add(carry: tuple[Any, Any], micro_batch: Any) -> tuple[tuple[Any, Any], Any]:
        total, stats = carry
        term, (outputs, stats) = derivative(params, stats, micro_batch)
        return (jax.tree.map(jnp.add, total, term), stats), outputs

    zeros = jax.tree.map(jnp.zeros_like, params)
    (total, stats), outputs = jax.lax.scan(add, (zeros, batch_stats), split(examples, micro_batches))
    return total, (join(outputs), stats)
