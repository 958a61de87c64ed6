"""What a config may hold: the range of every number, and which parts of a mitigation go together.

What lies outside, would correct for the same thing twice or cannot work is refused before any work starts, with the
reason. A mitigation is sampler x objective x head x schedule.
"""

from collections.abc import Collection, Mapping
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from kneefair_jax import mitigation, models
from kneefair_jax.data import sampling
from kneefair_jax.errors import InputError, lookup
from kneefair_jax.fairness import endpoints, family
from kneefair_jax.groups import UNKNOWN, Partition
from kneefair_jax.runtime.schema import find_fault
from kneefair_jax.training.config_fields import CONFIG

SCHEDULES = ("single", "group_specific", "distilled", "jtt", "last_layer")
FIXED_CASES = ("jtt", "last_layer")  # schedules that choose some of the training cases
STARTS = ("scratch", "pooled")
# Those that ask for the group of whoever is to be segmented.
NEEDS_GROUP_AT_TEST = {"schedule": ("group_specific",), "head": ("moe",)}


def check_ranges(config: ConfigDict) -> None:
    """Refuse fields of another type or outside their range, and impossible endpoints and primary families.

    Raises:
        InputError: naming the field, its value and what it may be.
    """
    values = config.copy_and_resolve_references().to_dict() if isinstance(config, ConfigDict) else config
    if fault := find_fault(values, CONFIG):
        field = ".".join(filter(None, ("config", fault.place)))
        if fault.value:
            raise InputError(f"{field}={fault.value}: give {fault.expected}")
        raise InputError(f"{field} is missing: give {fault.expected}; configs/default.py has every field")
    settings = endpoints.EndpointSettings(config.report.failure_dice, tuple(config.report.endpoints))
    endpoints.check(settings, "config.report.failure_dice", "config.report.endpoints")
    primary = family.parse(config.report.primary, "config.report.primary")
    family.resolve(primary, config.data.attributes, "config.report.primary")


def check_composition(config: Mapping[str, Any]) -> None:
    """Refuses names that there are not and combinations that cannot work.

    Args:
        config: the config's `mitigation` section.

    Raises:
        InputError: with the reason.
    """
    sampler, objective = config["sampler"], config["objective"]
    head, schedule = config["head"], config["schedule"]
    lookup(sampling.SAMPLERS, sampler, "mitigation.sampler")
    lookup(mitigation.OBJECTIVES, objective, "mitigation.objective")
    lookup(models.HEADS, head, "mitigation.head")
    lookup(dict.fromkeys(SCHEDULES), schedule, "mitigation.schedule")
    lookup(dict.fromkeys(STARTS), config["start"], "mitigation.start")
    if sampler in sampling.BALANCING and objective in mitigation.REWEIGHTING:
        _refuse(
            f"sampler={sampler!r} balances the groups, and objective={objective!r} would weigh the rare ones up "
            "once more; take sampler='shuffled' or objective='erm'"
        )
    if schedule == "group_specific":
        for field, value, only in (
            ("sampler", sampler, "shuffled"),
            ("objective", objective, "erm"),
            ("head", head, "none"),
        ):
            if value != only:
                _refuse(
                    f"each model of schedule='group_specific' sees one group; {field}={value!r} needs several"
                )
    if schedule == "distilled" and head != "none":
        _refuse(f"each teacher of schedule='distilled' sees one group; head={head!r} needs several")
    if schedule == "jtt" and (sampler in sampling.BALANCING or objective in mitigation.REWEIGHTING):
        _refuse(
            f"schedule='jtt' weighs up what a first run gets worst, and sampler={sampler!r} with "
            f"objective={objective!r} would weigh rare groups up as well; take 'shuffled' and 'erm'"
        )


def check_groups(config: Mapping[str, Any], partition: Partition, train: np.ndarray) -> None:
    """Refuses a mitigation by groups where there are none to tell apart.

    Args:
        config: the config's `mitigation` section.
        partition: of the whole table.
        train: its training rows.

    Raises:
        InputError: fewer than two groups have a training case, or one that each has a part of the network of its own
            for has none.
    """
    by_group = config["sampler"] in sampling.BALANCING or config["head"] != "none"
    by_group |= config["objective"] not in mitigation.GROUPLESS or config["schedule"] in (
        "group_specific",
        "distilled",
        "last_layer",
    )
    found = len(np.setdiff1d(partition.index[train], [UNKNOWN]))
    if by_group and found < 2:
        names = ", ".join(partition.attributes)
        raise InputError(
            f"config.mitigation: the training cases are of {found} known group{'s' * (found != 1)} of {names}, and "
            "a mitigation by groups needs two; name other mitigation.groups"
        )
    untrained = np.setdiff1d(np.arange(len(partition.names)), partition.index[train])
    if len(untrained) and (part := _needs_group_at_test(config)):
        _refuse(
            f"{part} segments each patient by group, but no training case has {partition.names[untrained[0]]}; take "
            "wider groups, another split (config.data.seed) or another one"
        )


def check_known_groups(
    config: Mapping[str, Any], partition: Partition, scored: np.ndarray, whose: str
) -> None:
    """Refuses a mitigation that needs the group at test time where it is missing.

    Args:
        config: the config's `mitigation` section.
        partition: of the table.
        scored: its rows that will be scored.
        whose: names them in the error.

    Raises:
        InputError: a group is unknown.
    """
    unknown = int((partition.index[scored] == UNKNOWN).sum())
    if unknown and (part := _needs_group_at_test(config)):
        _refuse(
            f"{part} segments each patient by group, but {unknown} of the {len(scored)} {whose} cases are of no known "
            f"group of {', '.join(partition.attributes)}; leave those out by data.levels, which names the levels to "
            "keep, or take another one"
        )


def check_online(config: ConfigDict, drawn: Collection[str]) -> None:
    """Refuse what needs the table's training cases, where each case is drawn online and seen once.

    Args:
        config: of the run.
        drawn: columns whose value the draw of a case decides: of a training row, they belong to another case.

    Raises:
        InputError: with the reason.
    """
    schedule, adjustment = config.mitigation.schedule, config.mitigation.adjustment
    grouping = {
        "data.attributes": config.data.attributes,
        "data.levels": config.data.get("levels", {}),
        "mitigation.groups": config.mitigation.groups,
    }
    refused = (
        (schedule in FIXED_CASES, f"mitigation.schedule={schedule!r} chooses among a fixed list of cases"),
        (adjustment > 0, f"mitigation.adjustment={adjustment} needs a group's number of training patients"),
        (config.data.folds > 0, f"data.folds={config.data.folds} divides a fixed list of patients"),
        (config.report.root_cause, "report.root_cause=True reads the training cases again"),
        *(
            (
                name in drawn,
                f"{field} holds {name!r}, which is drawn with each case and not that of the table",
            )
            for field, names in grouping.items()
            for name in names
        ),
    )
    for applies, reason in refused:
        if applies:
            raise InputError(
                f"config.data.phantom.online=True: every training case is new, and {reason}; set one of the two back"
            )


def _needs_group_at_test(config: Mapping[str, Any]) -> str:
    """The field that does and its value, for an error; empty where none does."""
    fields = (field for field, names in NEEDS_GROUP_AT_TEST.items() if config[field] in names)
    return next((f"{field}={config[field]!r}" for field in fields), "")


def _refuse(reason: str) -> None:
    raise InputError(f"config.mitigation: {reason}")
