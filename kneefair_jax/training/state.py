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
        seed: u32[], with the step it fixes every random draw; here, so that all seeds share one compiled step.
        step: i32[], updates made.
        params: of the network.
        batch_stats: running statistics of batch normalisation; empty with group normalisation.
        opt_state: of the optimiser.
        objective: of the group objective.
    """

    seed: jax.Array
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
    seed: jax.Array,
    model: nn.Module,
    grid: tuple[int, int, int],
    optimizer: optax.GradientTransformation,
    objective: GroupObjective,
    counts: jax.Array,
    patients: jax.Array | None = None,
) -> TrainState:
    """The state before the first step.

    Args:
        seed: u32[], draws the parameters, and what is random in each step.
        model: the network.
        grid: (H, W, C) of its input.
        optimizer: of the parameters.
        objective: how the losses of a batch become one.
        counts: i32[G], training cases of each group.
        patients: i32[G], their patients; None where each has one case.
    """
    variables = model.init(jax.random.key(seed), jnp.zeros((1, *grid), jnp.float32))
    params = variables["params"]
    return TrainState(
        seed=jnp.asarray(seed, jnp.uint32),
        step=jnp.zeros((), jnp.int32),
        params=params,
        batch_stats=variables.get("batch_stats", {}),
        opt_state=optimizer.init(params),
        objective=objective.init(counts, patients),
    )
