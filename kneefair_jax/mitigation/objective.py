"""The contract of a group objective, in the shape of an optax transformation.

An objective F of per-example losses is, to first order, a weighting of examples: `weights = dF/dlosses`. So
`update` returns weights, and the training step differentiates `sum(stop_gradient(weights) * losses)`.

With `axis_name`, sums over examples are collective: the weights are those of the global batch, and gradients
are summed (not averaged) over devices. That is the same result under jit, pmap and shard_map.
"""

import math
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp

from kneefair_jax.errors import InputError


class Init(Protocol):
    """The state before the first batch."""

    def __call__(self, counts: jax.Array, patients: jax.Array | None = None) -> Any:
        """Training cases i32[G] and patients i32[G] (default: counts) -> state, a tree of arrays (checkpointed)."""


class Update(Protocol):
    """The weights of one batch."""

    def __call__(
        self, losses: jax.Array, group: jax.Array, mask: jax.Array, state: Any, axis_name: str | None = None
    ) -> tuple[jax.Array, Any]:
        """Losses f32[B], group i32[B] (-1 unknown), mask f32[B] (0 = padding) -> (weights f32[B], state)."""
        ...


class Value(Protocol):
    """F itself, to be reported: nothing differentiates it."""

    def __call__(
        self,
        weights: jax.Array,
        losses: jax.Array,
        group: jax.Array,
        mask: jax.Array,
        state: Any,
        axis_name: str | None = None,
    ) -> jax.Array:
        """Weights f32[B] that `update` gave, what it was given for them -> f32[], of the global batch."""
        ...


def weighted_sum(
    weights: jax.Array,
    losses: jax.Array,
    group: jax.Array,
    mask: jax.Array,
    state: Any,
    axis_name: str | None = None,
) -> jax.Array:
    """F where it is the sum of weights x losses: where twice the losses make twice F, or weights that are stopped."""
    del group, mask, state
    # What padding holds may be anything, NaN included.
    return global_sum(jnp.where(weights == 0, 0, weights * losses), axis_name)


class GroupObjective(NamedTuple):
    """Pure functions, as in optax."""

    init: Init
    update: Update
    value: Value = weighted_sum


def global_sum(x: jax.Array, axis_name: str | None) -> jax.Array:
    """The sum of x over its first axis, and over the devices of `axis_name` where there is one."""
    total = x.sum(0)
    return total if axis_name is None else jax.lax.psum(total, axis_name)


def global_gather(x: jax.Array, axis_name: str | None) -> jax.Array:
    """X of all devices of `axis_name`, joined along the first axis: [b, ...] -> [B, ...]."""
    return x if axis_name is None else jax.lax.all_gather(x, axis_name, tiled=True)


def safe_divide(a: jax.Array, b: jax.Array) -> jax.Array:
    """A / b, and 0 where b is 0 (a batch without a valid example has no loss)."""
    return jnp.where(b > 0, a / jnp.where(b > 0, b, 1), 0)


def check_examples(*arrays: jax.Array) -> None:
    """Refuses arrays that are not all of one shape [B]: (B,) with (B, 1) would broadcast to (B, B) and hide it.

    Raises:
        ValueError: they are not.
    """
    shapes = [jnp.shape(array) for array in arrays]
    if len(shapes[0]) != 1 or len(set(shapes)) > 1:
        raise ValueError(
            f"losses, group and mask have shapes {shapes}; give one number an example, [B], in each"
        )


def check_setting(field: str, value: float, *, above: float = -math.inf, most: float = math.inf) -> None:
    """Refuses a hyperparameter that is not a finite number with `value >= 0`, `value > above` and `value <= most`.

    Raises:
        InputError: it names the field and what to give.
    """
    if not (math.isfinite(value) and value >= 0 and above < value <= most):
        least = "at least 0" if above < 0 else f"above {above:g}"
        limit = "" if most == math.inf else f" and at most {most:g}"
        raise InputError(f"config.mitigation.objective.{field}={value!r}: give a number {least}{limit}")
