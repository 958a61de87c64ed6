"""The contract of a group objective, in the shape of an optax transformation.

An objective F of per-example losses is, to first order, a weighting of examples: `weights = dF/dlosses`. So
`update` returns weights, and the training step differentiates `sum(stop_gradient(weights) * losses)`.

With `axis_name`, sums over examples are collective: the weights are those of the global batch, and gradients
are summed (not averaged) over devices. That is the same result under jit, pmap and shard_map.
"""

from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp


class Init(Protocol):
    """The state before the first batch."""

    def __call__(self, counts: jax.Array) -> Any:
        """`counts`, i32[G]: training cases of each group -> state, a tree of arrays (checkpointed)."""


class Update(Protocol):
    """The weights of one batch."""

    def __call__(
        self, losses: jax.Array, group: jax.Array, mask: jax.Array, state: Any, axis_name: str | None = None
    ) -> tuple[jax.Array, Any]:
        """Losses f32[B], group i32[B] (-1 unknown), mask f32[B] (0 = padding) -> (weights f32[B], state)."""
        ...


class GroupObjective(NamedTuple):
    """A pair of pure functions, as in optax."""

    init: Init
    update: Update


def global_sum(x: jax.Array, axis_name: str | None) -> jax.Array:
    """The sum of x over its first axis, and over the devices of `axis_name` where there is one."""
    total = x.sum(0)
    return total if axis_name is None else jax.lax.psum(total, axis_name)


def safe_divide(a: jax.Array, b: jax.Array) -> jax.Array:
    """A / b, and 0 where b is 0 (a batch without a valid example has no loss)."""
    return jnp.where(b > 0, a / jnp.where(b > 0, b, 1), 0)
