"""Fields of a config that have moved or been renamed, such as the settings of a mitigation's parts."""

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
_RENAMED = {"data.on_broken": "data.on_read_error"}
_SECTION = re.compile(r"(mitigation|study\.settings\.\w+)\.(\w+)")


def new_name(field: str) -> str | None:
    """Return the name that a field has now; None where it has not moved.

    Args:
        field: dotted, such as `mitigation.eta`. The names of the four parts, which are sections now, once held a
            method's name; they are moved fields too.
    """
    if not (match := _SECTION.fullmatch(field)):
        return _RENAMED.get(field)
    section, name = match.groups()
    if name in _PARTS:
        return f"{section}.{name}.name"
    return f"{section}.{_SETTINGS[name]}.{name}" if name in _SETTINGS else None


def moved_fields(config: Mapping[str, Any]) -> dict[str, str]:
    """Return the fields of an earlier layout that a config holds, each with its new name."""
    sections = {"mitigation": config.get("mitigation"), "data": config.get("data")}
    study = config.get("study")
    settings = study.get("settings") if isinstance(study, Mapping) else None
    if isinstance(settings, Mapping):
        sections |= {f"study.settings.{method}": changes for method, changes in settings.items()}
    return {
        f"{section}.{name}": new
        for section, fields in sections.items()
        if isinstance(fields, Mapping)
        for name, value in fields.items()
        if not isinstance(value, Mapping) and (new := new_name(f"{section}.{name}"))
    }


def describe(moved: Mapping[str, str]) -> str:
    """Return moved fields for a message: `mitigation.eta is now mitigation.objective.eta`, the first three of them."""
    clauses = [f"{old} is now {new}" for old, new in list(moved.items())[:3]]
    return ", ".join(clauses) + (f" and {len(moved) - 3} more" if len(moved) > 3 else "")
