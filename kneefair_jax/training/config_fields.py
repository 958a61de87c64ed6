"""Every field of a config with its type and its range: the one table of what a config may hold.

Messages about a field that a config does not have, or about a value of another type, come from the same table.

`tests/training/test_config_fields.py` walks the shipped configs: a field that is not declared fails it.
"""

import difflib
from collections.abc import Iterator
from typing import Any, NamedTuple

from kneefair_jax.fairness import bootstrap
from kneefair_jax.mitigation import OBJECTIVES
from kneefair_jax.runtime.command import MAX_DRAWS, SEED
from kneefair_jax.runtime.schema import (
    Choice,
    Flag,
    Integer,
    ListOf,
    Number,
    Omittable,
    Row,
    Schema,
    Table,
    Text,
    find_fault,
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
                "annotated_column": TEXT,
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


# The fields of `data` that the sources of cases read beside those that all of them read.
EXTERNAL_FIELDS = (
    *("external", "external_structures", "external_in_front", "external_orientation"),
    "external_ignore_label",
)
_OF_OAI = ("root", "tables", "orientation", "knees", "mirror", "bins", "quality", "allow_similar_ids")
SOURCE_FIELDS: dict[str, tuple[str, ...]] = {
    "folder": (
        *("root", "metadata", "structures", "ignore_label", "channels", "bins", "split_column"),
        *("annotated_column", "orientation", "allow_similar_ids"),
    ),
    "oai": (*_OF_OAI, "masks", "visits"),
    "siddiqui": (*_OF_OAI, "visit"),
    "phantom": ("phantom",),
}


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
        field: Setting(
            objective.ranges[field],
            objective.defaults[field],
            tuple(name for name, other in OBJECTIVES.items() if field in other.ranges),
        )
        for objective in OBJECTIVES.values()
        for field in objective.ranges
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
        "steps_per_call": Integer(1, 16),
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
        "attribute_leakage": Flag(),
        **optional({"author": TEXT, "measurements": Flag()}),
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


def schema_of(field: str) -> Schema | None:
    """Return the schema of a field such as `train.steps`; None for a field that no config has."""
    schema: Schema = CONFIG
    for name in field.split("."):
        inner = schema.fields.get(name, schema.other_fields) if isinstance(schema, Table) else None
        if inner is None:
            return None
        schema = _present(inner)
    return schema


def describe_unknown(field: str, source: str = "") -> str:
    """Describe a field that a config does not have: who reads it, or the field whose name is closest.

    Args:
        field: without `config.`, such as `train.stepz`.
        source: `data.source` of the config.

    Returns:
        `the config has no field train.stepz; did you mean train.steps?`
    """
    section, _, name = field.partition(".")
    name = name.partition(".")[0]
    readers = [reader for reader, fields in SOURCE_FIELDS.items() if section == "data" and name in fields]
    if section == "data" and name in EXTERNAL_FIELDS:
        return f"config.{field}: this config has no external cohort; data.update(default.external()) adds one"
    if readers and source and source not in readers:
        *first, last = readers
        names = f"{', '.join(first)} and {last} do" if first else f"{last} does"
        return f"config.{field}: data.source={source} does not read it; {names}"
    if schema_of(field) is not None:
        table = field.rpartition(".")[0]
        return f"config.{field}: this config has no such entry; set it in the config file, by config.{table}"
    guess, table = closest_field(field), field.rpartition(".")[0]
    if not guess and "." in table and isinstance(schema := schema_of(table), Table) and schema.fields:
        return f"the config has no field {field}; give one of {table}'s fields: {', '.join(schema.fields)}"
    return f"the config has no field {field}; " + (
        f"did you mean {guess}?" if guess else "configs/default.py lists the fields"
    )


def describe_illegal(field: str, value: str) -> str:
    """Describe a value that has not the type of its field: `--config.train.steps=ten: give a whole number from ...`."""
    schema = schema_of(field)
    fault = find_fault(object(), schema) if schema else None
    return f"--config.{field}={value}: give {fault.expected if fault else 'a value of the field'}"


def closest_field(field: str) -> str | None:
    """Return the field whose name is closest to an unknown one; None if there is none like it."""
    table: Schema = CONFIG
    names: list[str] = []
    for name in field.split("."):
        fields = table.fields if isinstance(table, Table) else {}
        matches = [name] if name in fields else difflib.get_close_matches(name, fields, 1)
        if not matches:
            break
        names.append(matches[0])
        table = _present(fields[matches[0]])
    else:
        return ".".join(names)
    if len(names) > 1:
        return None
    # The section is missing or another one.
    by_name: dict[str, str] = {}
    for path in _declared(CONFIG):
        by_name.setdefault(path.rpartition(".")[2], path)
    matches = difflib.get_close_matches(field.rpartition(".")[2], by_name, 1, cutoff=0.75)
    return by_name[matches[0]] if matches else None


def _declared(schema: Schema, section: str = "") -> Iterator[str]:
    """Yield the dotted name of every field within a table."""
    if isinstance(schema, Table):
        for name, inner in schema.fields.items():
            yield section + name
            yield from _declared(_present(inner), f"{section}{name}.")


def _present(schema: Schema) -> Schema:
    """Return the schema of a present value."""
    return schema.schema if isinstance(schema, Omittable) else schema
