"""The contract of a group objective, in the shape of an optax transformation, and the mean losses of the groups.

An objective F of per-example losses is, to first order, a weighting of examples: `weights = dF/dlosses`. So
`update` returns weights, and the training step differentiates `sum(stop_gradient(weights) * losses)`.

With `axis_name`, sums over examples are collective: the weights are those of the global batch, and gradients
are summed (not averaged) over devices. That is the same result under jit, pmap and shard_map.

Sharpness-aware minimization (`ascend`) takes any objective's step with the gradient at the worst point nearby.
"""

from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp


class Init(Protocol):
    """Returns the state before the first batch."""

    def __call__(self, counts: jax.Array, patients: jax.Array | None = None) -> Any:
        """Training cases i32[G] and patients i32[G] (default: counts) -> state, a tree of arrays (checkpointed)."""


class Update(Protocol):
    """Returns the weights of one batch."""

    def __call__(
        self, losses: jax.Array, group: jax.Array, mask: jax.Array, state: Any, axis_name: str | None = None
    ) -> tuple[jax.Array, Any]:
        """Losses f32[B], group i32[B] (-1 unknown), mask f32[B] (0 = padding) -> (weights f32[B], state).

        Raises:
            ValueError: shapes, type or values of the arrays cannot be used (`check_examples`).
        """
        ...


class Value(Protocol):
    """Returns F itself, for logs: it is never differentiated."""

    def __call__(
        self,
        weights: jax.Array,
        losses: jax.Array,
        group: jax.Array,
        mask: jax.Array,
        state: Any,
        axis_name: str | None = None,
    ) -> jax.Array:
        """Weights f32[B] of `update`, and the arguments of that call -> f32[], of the global batch."""
        ...


def weighted_sum(
    weights: jax.Array,
    losses: jax.Array,
    group: jax.Array,
    mask: jax.Array,
    state: Any,
    axis_name: str | None = None,
) -> jax.Array:
    """Return sum_i w_i l_i, which is F where F is homogeneous of degree 1 in the losses or its weights are stopped."""
    del group, mask, state
    # Padding may hold anything, NaN included.
    return global_sum(jnp.where(weights == 0, 0, weights * jnp.asarray(losses)), axis_name)


class GroupObjective(NamedTuple):
    """Pure functions, as in optax.

    Attributes:
        init: training cases of each group, [G] -> the state.
        update: losses f32[B], group i[B], mask f32[B], state -> weights f32[B] (dF/dlosses) and the new state.
        value: weights, losses, group, mask, state -> F, for the log; by default the weighted sum, which is F where F is
            homogeneous of degree 1 in the losses.
    """

    init: Init
    update: Update
    value: Value = weighted_sum


class GroupLosses(NamedTuple):
    """L_g of the global batch, and which groups it holds.

    Attributes:
        member: f32[B,G], 1 where the example is of the group; a row of zeros for padding and unknown groups.
        size: f32[G], examples of each group in the global batch.
        mean: f32[G], L_g; 0 where the group is absent.
    """

    member: jax.Array
    size: jax.Array
    mean: jax.Array

    @property
    def present(self) -> jax.Array:
        """bool[G]: the set P of groups with an example in the global batch."""
        return self.size > 0

    @property
    def share(self) -> jax.Array:
        """f32[G]: 1 / |P| for groups present and 0 for absent ones, so that `(share * x).sum()` is mean_P x."""
        present = self.present.astype(self.mean.dtype)
        return safe_divide(present, present.sum())

    def weights(self, slope: jax.Array) -> jax.Array:
        """dF/dL_g, f32[G] -> dF/dlosses, f32[B]: each example has 1 / n_g of its group's."""
        # Not a matrix product, which GPUs and TPUs would round.
        return (self.member * safe_divide(slope, self.size)).sum(-1)


def group_losses(
    losses: jax.Array, group: jax.Array, mask: jax.Array, groups: int, axis_name: str | None = None
) -> GroupLosses:
    """Return the means by group over the valid examples of known group.

    Example: losses [1, 3, 5, 9] of groups [0, 0, 1, -1] have means [2, 5] and sizes [2, 1].

    Args:
        losses: f32[B].
        group: i32[B], -1 where unknown.
        mask: f32[B], 0 = padding.
        groups: G.
        axis_name: the devices over which the batch is spread.

    Raises:
        ValueError: see `check_examples`.
    """
    losses, group, mask = check_examples(losses, group, mask, groups)
    dtype = jnp.result_type(losses)
    member = jax.nn.one_hot(group, groups, dtype=dtype) * mask.astype(dtype)[:, None]
    size = global_sum(member, axis_name)
    # Padding may hold anything, NaN included.
    total = global_sum(jnp.where(member > 0, member * losses[:, None], 0), axis_name)
    return GroupLosses(member, size, safe_divide(total, size))


def training_counts(counts: jax.Array, patients: jax.Array | None = None) -> jax.Array:
    """Return the state of objectives that carry nothing between batches: i32[G], whose length is the number of groups.

    It has the signature of `Init`.
    """
    del patients
    return jnp.asarray(counts, jnp.int32)


def empty_state(counts: jax.Array, patients: jax.Array | None = None) -> tuple[()]:
    """Return the state of objectives that use no group; it has the signature of `Init`."""
    del counts, patients
    return ()


def mean_weights(losses: jax.Array, mask: jax.Array, axis_name: str | None) -> jax.Array:
    """Return the weights of the mean over all valid examples of the global batch, f32[B]."""
    mask = mask.astype(jnp.result_type(losses))
    return safe_divide(mask, global_sum(mask, axis_name))


def global_sum(x: jax.Array, axis_name: str | None) -> jax.Array:
    """Sum x over its first axis, and over the devices of `axis_name` where there is one."""
    total = x.sum(0)
    return total if axis_name is None else jax.lax.psum(total, axis_name)


def global_gather(x: jax.Array, axis_name: str | None) -> jax.Array:
    """Join x of all devices of `axis_name` along the first axis: [b, ...] -> [B, ...]."""
    return x if axis_name is None else jax.lax.all_gather(x, axis_name, tiled=True)


def safe_divide(a: jax.Array, b: jax.Array) -> jax.Array:
    """A / b, and 0 where b is 0 (a batch without a valid example has no loss)."""
    return jnp.where(b > 0, a / jnp.where(b > 0, b, 1), 0)


def check_examples(
    losses: jax.Array, group: jax.Array, mask: jax.Array, groups: int | None = None
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Return the arrays of a batch; refuse other shapes than [B], groups that are no integers or beyond the last.

    (B,) with (B, 1) would broadcast to (B, B) and hide it. Under `jax.jit` the values are unknown: there a group beyond
    the last counts as unknown, like -1.

    Args:
        losses: f32[B], an array or a sequence, as the two others.
        group: i32[B], -1 where unknown.
        mask: f32[B].
        groups: G; None where the objective uses no group.

    Returns:
        losses, group and mask, each as an array of JAX.

    Raises:
        ValueError: the shapes differ or are not [B], or a group is not one of -1, 0, ..., G - 1.
    """
    losses, number, mask = (jnp.asarray(values) for values in (losses, group, mask))
    shapes = [array.shape for array in (losses, number, mask)]
    if len(shapes[0]) != 1 or len(set(shapes)) > 1:
        raise ValueError(
            f"losses, group and mask have shapes {shapes}; give one number per example, [B], in each"
        )
    if not jnp.issubdtype(number.dtype, jnp.integer):
        raise ValueError(f"group has the type {number.dtype}; give integers, -1 where the group is unknown")
    if groups is None or not len(number):
        return losses, number, mask
    if isinstance(group, jax.core.Tracer):
        has_group = (number >= 0) & (number < groups)
        return losses, jnp.where(has_group, number.astype(jnp.int32), -1), mask
    values = jax.device_get(group)
    if min(values) < -1 or max(values) >= groups:
        raise ValueError(
            f"group has the values {min(values)} to {max(values)}; give numbers from 0 to {groups - 1}, the groups of "
            "`init`, and -1 where the group is unknown"
        )
    return losses, number, mask


def ascend(params: Any, gradient: Any, radius: float) -> Any:
    """Return the worst of the points within rho of w, to first order: w + rho g / |g|, g being the gradient at w.

    The optimizer then steps from w along the gradient at that point:

        gradient = jax.grad(loss)(params)
        gradient = jax.grad(loss)(mitigation.ascend(params, gradient, radius))

    The weights of a group objective are those at w, where the batch's losses are known.

    Reference: Foret et al. (ICLR 2021). |g| is the norm over all parameters together; where g = 0, w stays.

    Example: rho = 1/2, w = [1, 0], g = [3, 4]: |g| = 5, and the point is [1.3, 0.4].

    Args:
        params: w, a tree of arrays.
        gradient: g, the same tree; of the global batch.
        radius: rho, above 0.
    """
    norm = jnp.sqrt(sum(jnp.square(leaf).sum() for leaf in jax.tree.leaves(gradient)))
    rise = safe_divide(jnp.asarray(radius), norm)
    return jax.tree.map(lambda p, g: p + rise * g, params, gradient)
