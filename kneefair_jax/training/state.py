"""Everything that a training step changes, and nothing else."""

from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

from kneefair_jax.mitigation import GroupObjective


class TrainState(NamedTuple):
    """A tree of arrays; saved whole, so a resumed run is the same run.

    Attributes:
        step: i32[], updates made.
        params: of the network.
        batch_stats: running statistics of batch normalisation; empty with group normalisation.
        opt_state: of the optimiser.
        objective: of the group objective.
    """

    step: jax.Array
    params: Any
    batch_stats: Any
    opt_state: Any
    objective: Any

    @property
    def variables(self) -> dict[str, Any]:
        """What `model.apply` takes."""
        return {"params": self.params, "batch_stats": self.batch_stats}


def create(
    key: jax.Array,
    model: nn.Module,
    grid: tuple[int, int, int],
    optimizer: optax.GradientTransformation,
    objective: GroupObjective,
    counts: jax.Array,
    patients: jax.Array | None = None,
) -> TrainState:
    """The state before the first step.

    Args:
        key: draws the parameters.
        model: the network.
        grid: (H, W, C) of its input.
        optimizer: of the parameters.
        objective: how the losses of a batch become one.
        counts: i32[G], training cases of each group.
        patients: i32[G], their patients; None where each has one case.
    """
    variables = model.init(key, jnp.zeros((1, *grid), jnp.float32))
    params = variables["params"]
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        params=params,
        batch_stats=variables.get("batch_stats", {}),
        opt_state=optimizer.init(params),
        objective=objective.init(counts, patients),
    )
