"""Config fields with new names, such as the settings of a mitigation's components."""

import re
from collections.abc import Mapping
from typing import Any

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
}
_SECTION = re.compile(r"(mitigation|study\.settings\.[^.]+)\.(\w+)")


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


def describe(moved: Mapping[str, str]) -> str:
    """Describe up to three renamed fields for a message: `mitigation.eta is now mitigation.objective.eta`."""
    clauses = [f"{old} is now {new}" for old, new in list(moved.items())[:3]]
    return ", ".join(clauses) + (f" and {len(moved) - 3} more" if len(moved) > 3 else "")
