"""Everything that a training step changes, and nothing else."""

from collections.abc import Mapping
from typing import Any, NamedTuple, Self

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
        iterate: `params` and `batch_stats` that the optimizer updates, where those above are their exponential moving
            average (`train.ema`); () where they are the same.
    """

    seed: jax.Array
    step: jax.Array
    params: Any
    batch_stats: Any
    opt_state: Any
    objective: Any
    iterate: Any = ()

    @property
    def variables(self) -> dict[str, Any]:
        """What `model.apply` takes."""
        return {"params": self.params, "batch_stats": self.batch_stats}

    @property
    def optimized(self) -> dict[str, Any]:
        """The variables that the next update starts from."""
        return self.iterate or self.variables

    def with_variables(self, variables: Mapping[str, Any]) -> Self:
        """Return the state with other variables, for a moving average as for the iterate.

        The iterate is a copy: a training step donates its state, and cannot donate an array twice.
        """
        iterate = jax.tree.map(jnp.copy, dict(variables)) if self.iterate else ()
        return self._replace(**variables, iterate=iterate)


def create(
    seed: jax.Array,
    model: nn.Module,
    grid: tuple[int, int, int],
    optimizer: optax.GradientTransformation,
    objective: GroupObjective,
    counts: jax.Array,
    patients: jax.Array | None = None,
    *,
    average: bool = False,
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
        average: whether `params` are a moving average, so that the state has an `iterate`.
    """
    variables = model.init(jax.random.key(seed), jnp.zeros((1, *grid), jnp.float32))
    params = variables["params"]
    state = TrainState(
        seed=jnp.asarray(seed, jnp.uint32),
        step=jnp.zeros((), jnp.int32),
        params=params,
        batch_stats=variables.get("batch_stats", {}),
        opt_state=optimizer.init(params),
        objective=objective.init(counts, patients),
    )
    return state._replace(iterate=state.variables) if average else state
