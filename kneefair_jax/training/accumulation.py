"""Gradient accumulation: a batch in parts, one after another, for a batch that does not fit into memory at once.

The weights of all examples have to be known before the first part is seen, so the objective must be one whose weights
do not depend on the losses (`mitigation.LINEAR`). Then the gradients of the parts add up to that of the whole batch.
With batch normalisation each part is normalised by its own statistics, which are of fewer cases, as on a smaller batch.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from kneefair_jax import mitigation
from kneefair_jax.errors import InputError

# `(params, batch_stats, examples) -> (value f32[], (per example, batch_stats))`.
ValueOf = Callable[[Any, Any, Any], tuple[jax.Array, tuple[Any, Any]]]


def check(parts: int, objective: str, batch_size: int, devices: int) -> None:
    """Refuses an objective that needs the losses of the whole batch, and a batch that cannot be cut evenly.

    Args:
        parts: `train.accumulation`.
        objective: a key of `mitigation.OBJECTIVES`.
        batch_size: of the global batch.
        devices: that share it.

    Raises:
        InputError: with what to take instead.
    """
    if parts == 1:
        return
    if objective not in mitigation.LINEAR:
        raise InputError(
            f"config.train.accumulation={parts}: the weights of mitigation.objective={objective!r} depend on the "
            "losses of the whole batch, which are not known until its last part; give 1, or one of "
            f"{', '.join(sorted(mitigation.LINEAR))}"
        )
    if batch_size % (parts * devices):
        raise InputError(
            f"config.train.accumulation={parts}: a batch of {batch_size} on {devices} device{'s' * (devices != 1)} "
            f"cannot be cut into {parts} equal parts; give a train.batch_size that is a multiple of {parts * devices}"
        )


def cut(tree: Any, parts: int) -> Any:
    """Arrays [B, ...] -> [parts, B / parts, ...]; a part takes every `parts`-th example.

    So each device has its share of every part already, and nothing moves between devices.
    """
    return jax.tree.map(lambda x: x.reshape(-1, parts, *x.shape[1:]).swapaxes(0, 1), tree)


def joined(tree: Any) -> Any:
    """The inverse of `cut`."""
    return jax.tree.map(lambda x: x.swapaxes(0, 1).reshape(-1, *x.shape[2:]), tree)


def gradient(
    value_of: ValueOf, params: Any, batch_stats: Any, examples: Any, parts: int
) -> tuple[Any, tuple[Any, Any]]:
    """The gradient of a sum over examples, of which a part is in memory at a time.

    Args:
        value_of: what to differentiate by its first argument.
        params: where.
        batch_stats: running statistics; each part starts from those that the part before it left.
        examples: arrays [B, ...], B being a multiple of `parts`.
        parts: how many; 1 is the plain gradient.

    Returns:
        The gradient, and (what `value_of` says per example, in the order of `examples`; batch statistics).
    """
    differentiated = jax.grad(value_of, has_aux=True)
    if parts == 1:
        plain: tuple[Any, tuple[Any, Any]] = differentiated(params, batch_stats, examples)
        return plain

    def add(carry: tuple[Any, Any], part: Any) -> tuple[tuple[Any, Any], Any]:
        summed, stats = carry
        its_own, (each, stats) = differentiated(params, stats, part)
        return (jax.tree.map(jnp.add, summed, its_own), stats), each

    start = jax.tree.map(jnp.zeros_like, params)
    (summed, stats), each = jax.lax.scan(add, (start, batch_stats), cut(examples, parts))
    return summed, (joined(each), stats)
