"""The numbers that a config may hold; whatever lies outside is refused before any work starts."""

import math

from ml_collections import ConfigDict

from kneefair_jax.errors import InputError

LIMITS: dict[str, tuple[float, float]] = {
    "mitigation.eta": (0, math.inf),
    "mitigation.adjustment": (0, math.inf),
    "mitigation.alpha": (0, 1),
    "mitigation.penalty": (0, math.inf),
    "mitigation.power": (0, math.inf),
    "mitigation.strength": (0, math.inf),
    "mitigation.distillation": (0, math.inf),
    "mitigation.extra_steps": (1, math.inf),
    "mitigation.share": (0, 1),
    "mitigation.upweight": (1, math.inf),
    "mitigation.sharpness": (0, math.inf),
    "train.batch_size": (1, math.inf),
    "train.steps": (1, math.inf),
    "train.eval_every": (1, math.inf),
    "train.log_every": (1, math.inf),
    "train.accumulation": (1, math.inf),
    "model.convolutions": (1, math.inf),
    "optimizer.learning_rate": (0, math.inf),
    "optimizer.warmup_steps": (0, math.inf),
    "optimizer.weight_decay": (0, math.inf),
    "optimizer.clip_norm": (0, math.inf),
    "augment.flip": (0, 1),
    "augment.rotation": (0, 180),
    "augment.scale": (0, math.inf),
    "augment.stretch": (0, math.inf),
    "augment.shear": (0, 1),
    "augment.shift": (0, 1),
    "augment.elastic": (0, 1 / 16),
    "augment.gamma": (0, math.inf),
    "augment.contrast": (0, 1),
    "augment.blur": (0, math.inf),
    "augment.noise": (0, math.inf),
    "augment.cut_out": (0, 1),
    "augment.marker": (0, 1),
    "augment.collimation": (0, 1),
    "augment.invert": (0, 1),
    "report.min_group_patients": (1, math.inf),
    "report.bootstrap_draws": (1, math.inf),
}


# Those whose lower limit is itself too low.
ABOVE = frozenset({"mitigation.alpha"})


def check(config: ConfigDict) -> None:
    """Refuses numbers outside of `LIMITS`, and a network without channels.

    Raises:
        InputError: naming the field, its value and what it may be.
    """
    if config.seed < 0:
        raise InputError(f"config.seed={config.seed}: give 0 or more")
    for field, (low, high) in LIMITS.items():
        section, name = field.split(".")
        value = config[section][name]
        if not low <= value <= high or (value == low and field in ABOVE):
            allowed = f"at least {low}" if high == math.inf else f"from {low} to {high}"
            if field in ABOVE:
                allowed = f"above {low} and at most {high}"
            raise InputError(f"config.{field}={value}: give a number {allowed}")
    widths = tuple(config.model.widths)
    if not widths or min(widths) < 1:
        raise InputError(
            f"config.model.widths={widths}: give the channels of each level, such as (16, 32, 64)"
        )
