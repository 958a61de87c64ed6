"""Every field of a config with its type and its range: the one table of what a config may hold.

`tests/training/test_config_fields.py` walks the shipped configs: a field that is not declared fails it.
"""

from typing import Any, NamedTuple

from kneefair_jax.fairness import bootstrap
from kneefair_jax.runtime.command_line import MAX_DRAWS, SEED
from kneefair_jax.runtime.schema import (
    Choice,
    Flag,
    Integer,
    ListOf,
    Number,
    Row,
    Schema,
    Table,
    Text,
    optional,
)
from kneefair_jax.weights.network import CHANNELS, NETWORK, SIDE

TEXT = Text(100_000, printable=False)
NAMES = ListOf(Text(1000, non_empty=True), 0, 100)
STEPS = Integer(1, 10_000_000)
DRAWS = Integer(bootstrap.MIN_DRAWS, MAX_DRAWS)
SHARE = Number(0, 1)
LEVEL = Integer(-1, 65_535)  # of a mask of 16 bits; -1 is none

PHANTOM = Table(
    {
        "patients": Integer(1, 1_000_000),
        "knees_per_patient": Choice((1, 2)),
        "bilateral": Flag(),
        "attributes": Table(other_fields=Table(other_fields=SHARE)),
        "bias": Table(other_fields=Table(other_fields=SHARE)),
        "fov_mm": Row((Number(1, 2000), Number(1, 2000))),
        "randomisation": Row((SHARE, SHARE)),
        "masks": TEXT,
        **optional({"structures": TEXT, "films": TEXT, "online": Flag()}),
    }
)
DATA = Table(
    {
        "seed": SEED,
        "size": Row((SIDE, SIDE)),
        "attributes": NAMES,
        "levels": Table(other_fields=NAMES),
        "fractions": Row((SHARE, SHARE, SHARE)),
        "folds": Integer(0, 100),
        "fold": Integer(-1, 99),
        "store": TEXT,
        "workers": Integer(0, 1024),
        "beam": TEXT,
        "on_read_error": TEXT,
        # What a source reads beside these.
        **optional(
            {
                "source": TEXT,
                "phantom": PHANTOM,
                "root": TEXT,
                "metadata": TEXT,
                "structures": TEXT,
                "ignore_label": LEVEL,
                "channels": CHANNELS,
                "bins": Table(other_fields=ListOf(Number(-1e9, 1e9), 1, 100)),
                "split_column": TEXT,
                "orientation": TEXT,
                "external": TEXT,
                "external_structures": TEXT,
                "external_in_front": Choice(("", "tibia", "fibula")),
                "external_orientation": TEXT,
                "external_ignore_label": LEVEL,
                "allow_similar_ids": Flag(),
                "masks": TEXT,
                "tables": TEXT,
                "visits": NAMES,
                "visit": TEXT,
                "knees": TEXT,
                "mirror": Flag(),
                "quality": Table(other_fields=TEXT),
            }
        ),
    }
)


class Setting(NamedTuple):
    """A setting of some methods of a part of the mitigation.

    Attributes:
        schema: its type and range.
        default: its value for the methods that do not read it.
        methods: the methods that read it.
    """

    schema: Schema
    default: Any
    methods: tuple[str, ...]


# Part of a mitigation -> its settings; `name` names the method.
SETTINGS: dict[str, dict[str, Setting]] = {
    "sampler": {},
    "objective": {
        "eta": Setting(Number(0, 1000), 0.1, ("group_dro",)),
        "adjustment": Setting(Number(0, 1e12), 0.0, ("group_dro",)),
        "alpha": Setting(Number(0, 1, exclusive_low=True), 0.5, ("cvar_dro", "within_group_cvar")),
        "penalty": Setting(Number(0, 1e12), 1.0, ("gap_penalty", "vrex")),
        "anneal_steps": Setting(Integer(0, STEPS.high), 0, ("vrex",)),
        "power": Setting(Number(0, 100), 1.0, ("error_bound",)),
    },
    "head": {
        "strength": Setting(Number(0, 1e4), 0.1, ("adversarial", "attribute_head")),
        "ramp": Setting(Flag(), False, ("adversarial",)),
    },
    "schedule": {
        "start": Setting(TEXT, "scratch", ("distilled", "group_specific")),
        "distillation": Setting(Number(0, 1e4), 1.0, ("distilled",)),
        "temperature": Setting(Number(0, 1000, exclusive_low=True), 1.0, ("distilled",)),
        "extra_steps": Setting(STEPS, 100, ("jtt", "last_layer")),
        "share": Setting(SHARE, 0.2, ("jtt", "last_layer")),
        "upweight": Setting(Number(1, 1e4), 5.0, ("jtt",)),
    },
}
_PARTS: dict[str, dict[str, Schema]] = {
    part: {"name": TEXT} | {name: setting.schema for name, setting in settings.items()}
    for part, settings in SETTINGS.items()
}
_SHARED: dict[str, Schema] = {"groups": NAMES, "sharpness": Number(0, 100)}
MITIGATION = Table(_SHARED | {part: Table(fields) for part, fields in _PARTS.items()})
# What a method of a study changes.
METHOD = Table(optional(_SHARED | {part: Table(optional(fields)) for part, fields in _PARTS.items()}))
OPTIMIZER = Table(
    {
        "name": TEXT,
        "learning_rate": Number(0, 1000),
        "schedule": TEXT,
        "warmup_steps": Integer(0, STEPS.high),
        "weight_decay": Number(0, 1000),
        "clip_norm": Number(0, 1e12),
    }
)
AUGMENT = Table(
    {
        "flip": SHARE,
        "rotation": Number(0, 180),
        "scale": Number(0, 10),
        "stretch": Number(0, 10),
        "shear": SHARE,
        "shift": SHARE,
        "elastic": Number(0, 1 / 16),
        "gamma": Number(0, 10),
        "contrast": SHARE,
        "blur": Number(0, 100),
        "noise": Number(0, 10),
        "cut_out": SHARE,
        "marker": SHARE,
        "collimation": SHARE,
        "invert": SHARE,
    }
)
TRAIN = Table(
    {
        "batch_size": Integer(1, 65_536),
        "steps": STEPS,
        "eval_every": Integer(1, 10**12),
        "log_every": Integer(1, 10**12),
        "accumulation": Integer(1, 65_536),
        "ema": Number(0, 0.99999),
        "profile": ListOf(STEPS, 0, 2),
    }
)
REPORT = Table(
    {
        "min_group_patients": Integer(1, 1_000_000),
        "equivalence_margin": Table(other_fields=Number(0, 1000, exclusive_low=True)),
        "failure_dice": SHARE,
        "endpoints": NAMES,
        "primary": TEXT,
        "intersections": Flag(),
        "bootstrap_draws": DRAWS,
        "resolution": TEXT,
        "root_cause": Flag(),
    }
)
STUDY = Table(
    {
        "title": TEXT,
        "description": TEXT,
        "methods": NAMES,
        "seeds": ListOf(SEED, 1, 1000),
        "settings": Table(other_fields=METHOD),
        "oracle": Flag(),
        "sweep": ListOf(SHARE, 0, 100),
        "sweep_methods": NAMES,
        "bootstrap_draws": DRAWS,
    }
)
_SECTIONS: dict[str, Schema] = {
    "seed": SEED,
    "init_from": TEXT,
    "data": DATA,
    "model": NETWORK,
    "loss": TEXT,
    "mitigation": MITIGATION,
    "optimizer": OPTIMIZER,
    "augment": AUGMENT,
    "train": TRAIN,
    "parallel": TEXT,
    "select": TEXT,
    "check": Table({"against": TEXT}),
    "report": REPORT,
}
CONFIG = Table(_SECTIONS | optional({"study": STUDY}))
