"""The state of training, which is everything that a training step changes, and the optimizer that updates it."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, Self, cast

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

from kneefair_jax.errors import InputError, lookup
from kneefair_jax.mitigation import GroupObjective

OPTIMIZERS = {"adam": optax.adam, "adamw": optax.adamw, "sgd": optax.sgd}

SCHEDULES: dict[str, Callable[[float, int], optax.Schedule]] = {
    "constant": lambda peak, steps: optax.constant_schedule(peak),
    "cosine": optax.cosine_decay_schedule,
}


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


def learning_rate(config: Mapping[str, Any], steps: int) -> optax.Schedule:
    """Return the learning rate by step: linear warm-up, then `constant` or `cosine` down to 0 at `steps`.

    A function of the step alone, so a resumed run continues on the same curve.

    Raises:
        InputError: no schedule has that name.
    """
    peak, warmup = config["learning_rate"], config["warmup_steps"]
    after = lookup(SCHEDULES, config["schedule"], "config.optimizer.schedule")(peak, max(steps - warmup, 1))
    if not warmup:
        return after
    # The first update counts: warm-up starts a step above 0.
    rise = optax.linear_schedule(peak / (warmup + 1), peak, warmup)
    return optax.join_schedules([rise, after], [warmup])


def create_optimizer(config: Mapping[str, Any], steps: int) -> optax.GradientTransformation:
    """Return clipping by global norm, then the named optimizer with `learning_rate`.

    Args:
        config: `name`, `learning_rate`, `schedule`, `warmup_steps`, `weight_decay` (decoupled; adamw only),
            `clip_norm` (0: no clipping).
        steps: number of updates of the run.

    Raises:
        InputError: no optimizer has that name, or it has no weight decay.
    """
    name, decay = config["name"], config["weight_decay"]
    if decay and name != "adamw":
        raise InputError(
            f"config.optimizer.weight_decay={decay} is for adamw; {name} has none; set it to 0, or set "
            "optimizer.name='adamw'"
        )
    extra = {"weight_decay": decay} if name == "adamw" else {}
    transform = lookup(OPTIMIZERS, name, "config.optimizer.name")(learning_rate(config, steps), **extra)
    clip = config["clip_norm"]
    return optax.chain(optax.clip_by_global_norm(clip), transform) if clip else transform


def restrict_optimizer(transform: optax.GradientTransformation, part: str) -> optax.GradientTransformation:
    """Return the transformation for one top-level part of the parameters; the others stay, weight decay included."""
    return optax.partition(
        {True: transform, False: optax.set_to_zero()},
        lambda params: {
            name: jax.tree.map(lambda _, is_trainable=name == part: is_trainable, tree)
            for name, tree in params.items()
        },
    )
