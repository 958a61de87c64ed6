"""The JSON files of a run, for commands that read untrusted runs: their schemas, and the fields with new names.

The schemas declare the values that a command uses; other fields of a file may have any value.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kneefair_jax.errors import InputError
from kneefair_jax.runtime import checked_files
from kneefair_jax.runtime.schema import (
    Anything,
    Choice,
    Integer,
    ListOf,
    Nullable,
    Number,
    Omittable,
    Schema,
    Table,
    Text,
)

# Within `mitigation`, and within each method of `study.settings`.
_PARTS = ("sampler", "objective", "head", "schedule")
_SETTINGS = {
    **dict.fromkeys(("eta", "adjustment", "alpha", "penalty", "anneal_steps", "power"), "objective"),
    **dict.fromkeys(("strength", "ramp"), "head"),
    **dict.fromkeys(("start", "distillation", "temperature", "extra_steps", "share", "upweight"), "schedule"),
}
_RENAMED = {
    "data.on_broken": "data.on_read_error",
    "report.delta": "report.equivalence_margin",
    "report.root_cause": "report.attribute_leakage",
}
_SECTION = re.compile(r"(mitigation|study\.settings\.[^.]+)\.(\w+)")

_REMEDY = "put a copy of it back, or give the folder of another run"
_REST = Anything()
_TEXT = Text(100_000, printable=False)
_COUNT = Integer(0, 10**9)
_SECONDS = Number(0, 1e12)
STEP = Integer(0, 10**9)

ENVIRONMENT = Table(
    {
        "versions": Table(other_fields=_TEXT),
        "commit": Nullable(_TEXT),
        "device": _TEXT,
        "command": _TEXT,
        "data": Omittable(Table(other_fields=_TEXT)),
        "path_sha256": Omittable(Table(other_fields=_TEXT)),
    },
    other_fields=_REST,
)
_INTERVAL = Nullable(ListOf(Nullable(Number(-1e9, 1e9)), 2, 2))
_ENTRY = Table(
    {
        "mean": Nullable(Number(-1e9, 1e9)),
        "interval": _INTERVAL,
        "patients": Nullable(_COUNT),
        "cases": Nullable(_COUNT),
    },
    other_fields=_REST,
)
_BY_GROUP: dict[str, Schema] = {"overall": _ENTRY, "groups": Table(other_fields=_ENTRY)}
_GAP = Table({"gap": Table({"value": Nullable(Number(-1e9, 1e9)), "interval": _INTERVAL}, _REST)}, _REST)
_DICE = Table(
    {
        "overall": Omittable(_ENTRY),
        "groups": Omittable(Table(other_fields=_ENTRY)),
        "structures": Table(other_fields=Table(_BY_GROUP, _REST)),
        "summaries": Omittable(Table(other_fields=_GAP)),
    },
    _REST,
)
_STRUCTURES = ListOf(Text(200, non_empty=True), 1, 254, unique=True)
_SCORED = Table(
    {"scores": Table({"dice": _DICE}, _REST), "structures": Omittable(Nullable(_STRUCTURES))}, _REST
)
_TRAIN_SCORES = Table(other_fields=Table({"cases": _COUNT, "dice": Nullable(Number(-10, 10))}, _REST))
_ROW = Table({"split": _TEXT, "group": _TEXT, "patients": _COUNT}, _REST)
# Schemas of a study's or fold's own report, and of a report to export.
EVALUATED = Table(
    {"run": Omittable(Table(other_fields=_REST)), "train_scores": Omittable(Nullable(_TRAIN_SCORES))}, _REST
)
EXPORTED = Table(
    {
        "cohort": Table(
            {
                "structures": _STRUCTURES,
                "attributes": Omittable(Nullable(ListOf(_TEXT, 0, 1000))),
                "min_group_patients": Omittable(_COUNT),
                "table": Omittable(Nullable(ListOf(_ROW, 0, 100_000))),
            },
            _REST,
        ),
        "run": Table(
            {
                "classes": Omittable(
                    _STRUCTURES
                ),  # absent from older reports, where they are cohort.structures
                "grid": ListOf(Integer(1, 4096), 2, 2),
                "step": _REST,  # a number, or one a group
                "steps_in_all": Omittable(STEP),
                "resolution": Omittable(Choice(("native", "working"))),
                "times": Omittable(Table(other_fields=Nullable(_SECONDS))),
                "absent": Omittable(Nullable(Table(other_fields=_COUNT))),
            },
            _REST,
        ),
        **_SCORED.fields,
        "external": Omittable(_SCORED),
    },
    _REST,
)


def read_config(path: Path, remedy: str = _REMEDY, schema: Table | None = None) -> dict[str, Any]:
    """Return the `config.json` of a run.

    Args:
        path: of the file.
        remedy: what the user can do, the end of the message.
        schema: what the config must fit; None for named fields of any values.

    Raises:
        InputError: see `checked_files.read_json`; or the config has the layout of an earlier version.
    """
    config: dict[str, Any] = checked_files.read_json(path, Table(other_fields=_REST), remedy)
    if fields := moved_fields(config):
        raise InputError(
            f"{path}: this run is of an earlier version ({describe_moved(fields)}); give another --workdir, "
            "or use this folder with the version that wrote it"
        )
    if schema is not None:
        checked_files.require_schema(config, schema, path, remedy)
    return config


def read_environment(path: Path) -> dict[str, Any]:
    """Return the checked `environment.json` of a run.

    Raises:
        InputError: see `checked_files.read_json`.
    """
    environment: dict[str, Any] = checked_files.read_json(path, ENVIRONMENT, _REMEDY)
    return environment


def read_report(path: Path, schema: Table = EVALUATED) -> dict[str, Any]:
    """Return the checked `report.json` of an evaluated run.

    Raises:
        InputError: see `checked_files.read_json`.
    """
    remedy = "give the folder of a finished run, or finish it with launch.py --mode=evaluate"
    report: dict[str, Any] = checked_files.read_json(
        path, schema, remedy, max_bytes=checked_files.MAX_REPORT_BYTES
    )
    return report


def new_name(field: str) -> str | None:
    """Return the current name of a field; None if its name has not changed.

    Args:
        field: dotted name, such as `mitigation.eta`. The four components are sections now; in earlier versions each
            field of these names contained a method's name, and has a new name too.
    """
    if not (match := _SECTION.fullmatch(field)):
        renamed = [(old, new) for old, new in _RENAMED.items() if field == old or field.startswith(f"{old}.")]
        return renamed[0][1] + field.removeprefix(renamed[0][0]) if renamed else None
    section, name = match.groups()
    if name in _PARTS:
        return f"{section}.{name}.name"
    return f"{section}.{_SETTINGS[name]}.{name}" if name in _SETTINGS else None


def moved_fields(config: Mapping[str, Any]) -> dict[str, str]:
    """Return the fields of an earlier layout in a config, each with its new name."""
    sections = {name: config.get(name) for name in ("mitigation", "data", "report")}
    study = config.get("study")
    settings = study.get("settings") if isinstance(study, Mapping) else None
    if isinstance(settings, Mapping):
        sections |= {f"study.settings.{method}": changes for method, changes in settings.items()}
    return {
        f"{section}.{name}": new
        for section, fields in sections.items()
        if isinstance(fields, Mapping)
        for name, value in fields.items()
        if (not isinstance(value, Mapping) or f"{section}.{name}" in _RENAMED)
        and (new := new_name(f"{section}.{name}"))
    }


def describe_moved(moved: Mapping[str, str]) -> str:
    """Describe up to three renamed fields for a message: `mitigation.eta is now mitigation.objective.eta`."""
    clauses = [f"{old} is now {new}" for old, new in list(moved.items())[:3]]
    return ", ".join(clauses) + (f" and {len(moved) - 3} more" if len(moved) > 3 else "")
