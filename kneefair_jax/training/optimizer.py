"""The optimizer of a config, from optax."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import optax

from kneefair_jax.errors import InputError, lookup

OPTIMIZERS = {"adam": optax.adam, "adamw": optax.adamw, "sgd": optax.sgd}

SCHEDULES: dict[str, Callable[[float, int], optax.Schedule]] = {
    "constant": lambda peak, steps: optax.constant_schedule(peak),
    "cosine": optax.cosine_decay_schedule,
}


def schedule(config: Mapping[str, Any], steps: int) -> optax.Schedule:
    """Return the learning rate by step: linear warm-up, then `constant` or `cosine` down to 0 at `steps`.

    A function of the step alone, so a resumed run continues on the same curve.

    Raises:
        InputError: no schedule has that name.
    """
    peak, warmup = config["learning_rate"], config["warmup_steps"]
    after = lookup(SCHEDULES, config["schedule"], "optimizer.schedule")(peak, max(steps - warmup, 1))
    if not warmup:
        return after
    # The first update counts: warm-up starts a step above 0.
    rise = optax.linear_schedule(peak / (warmup + 1), peak, warmup)
    return optax.join_schedules([rise, after], [warmup])


def create(config: Mapping[str, Any], steps: int) -> optax.GradientTransformation:
    """Return clipping by global norm, then the named optimizer with `schedule`.

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
    transform = lookup(OPTIMIZERS, name, "optimizer.name")(schedule(config, steps), **extra)
    clip = config["clip_norm"]
    return optax.chain(optax.clip_by_global_norm(clip), transform) if clip else transform


def restricted(transform: optax.GradientTransformation, part: str) -> optax.GradientTransformation:
    """Return the transformation for one top-level part of the parameters; the others stay, weight decay included."""
    return optax.partition(
        {True: transform, False: optax.set_to_zero()},
        lambda params: {
            name: jax.tree.map(lambda _, is_trainable=name == part: is_trainable, tree)
            for name, tree in params.items()
        },
    )
