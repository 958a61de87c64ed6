"""The state of training: everything that a training step changes, and nothing else."""

from collections.abc import Mapping
from typing import Any, NamedTuple, Self, cast

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

from kneefair_jax.mitigation import GroupObjective


class TrainState(NamedTuple):
    """A tree of arrays; a checkpoint holds all of it, so a resumed run ends in the same state.

    Attributes:
        seed: u32[]; seed and step fix every random draw. Part of the state, so that all seeds share one program.
        step: i32[], number of updates.
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
        """The variables that `model.apply` takes, and that are scored."""
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

    def updated(
        self, variables: dict[str, Any], opt_state: optax.OptState, objective: Any, decay: float
    ) -> Self:
        """Return the state after a step, with the moving average of its variables where `decay` is above 0."""
        average = moving_average(self.variables, variables, self.step, decay) if decay else variables
        return self._replace(
            step=self.step + 1,
            **average,
            opt_state=opt_state,
            objective=objective,
            iterate=variables if decay else (),
        )


def create(
    seed: jax.Array,
    model: nn.Module,
    grid: tuple[int, int, int],
    optimizer: optax.GradientTransformation,
    objective: GroupObjective,
    counts: jax.Array,
    patients: jax.Array | None = None,
    *,
    variables: Mapping[str, Any] | None = None,
    average: bool = False,
) -> TrainState:
    """Return the state before the first step.

    Args:
        seed: u32[], of the parameters and of each step's random draws.
        model: the network.
        grid: (H, W, C) of its input.
        optimizer: of the parameters.
        objective: turns the losses of a batch into weights.
        counts: i32[G], training cases of each group.
        patients: i32[G], their patients; None where each has one case.
        variables: of the network; None draws them from the seed.
        average: whether `params` are a moving average, so that the state has an `iterate`.
    """
    if variables is None:
        variables = cast(dict[str, Any], model.init(jax.random.key(seed), jnp.zeros((1, *grid), jnp.float32)))
    state = TrainState(
        seed=jnp.asarray(seed, jnp.uint32),
        step=jnp.zeros((), jnp.int32),
        params=variables["params"],
        batch_stats=variables.get("batch_stats", {}),
        opt_state=optimizer.init(variables["params"]),
        objective=objective.init(counts, patients),
    )
    return state._replace(iterate=jax.tree.map(jnp.copy, state.variables)) if average else state


def moving_average(
    average: dict[str, Any], latest: dict[str, Any], step: jax.Array, decay: float
) -> dict[str, Any]:
    """Return decay * average + (1 - decay) * latest, of parameters and batch statistics.

    Up to decay = (1 + step) / (10 + step), the decay of the first steps, so that the initial values soon lose weight.

    Reference: Polyak and Juditsky, Acceleration of stochastic approximation by averaging, 1992.

    Args:
        average: variables before the step.
        latest: variables after the update.
        step: i32[], updates before this one.
        decay: in (0, 1).
    """
    weight = 1 - jnp.minimum(decay, (1 + step) / (10 + step))
    return cast(dict[str, Any], optax.incremental_update(latest, average, weight))
