"""Validates a config, alone and with its cohort, before any work starts: the one place for ranges and combinations.

A mitigation is sampler x objective x head x schedule. What lies outside its range, would correct for the same thing
twice, has no effect or cannot work is an error with the reason.
"""

from collections.abc import Collection, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from kneefair_jax import anatomy, groups, losses, measurements, mitigation, models
from kneefair_jax.data import sampling
from kneefair_jax.data.cohort_loader import Cohort
from kneefair_jax.errors import InputError, lookup
from kneefair_jax.fairness import endpoints, family
from kneefair_jax.groups import UNKNOWN, Partition
from kneefair_jax.models.registry import training_bytes
from kneefair_jax.runtime import memory, run_files
from kneefair_jax.runtime.schema import find_fault
from kneefair_jax.training import (
    checkpoint,
    config_fields,
    metric_writer,
    scoring,
    setup,
    sharding,
    stages,
    state,
)
from kneefair_jax.training.config_fields import CONFIG, SETTINGS
from kneefair_jax.weights import warm_start

FIXED_CASES = ("jtt", "last_layer")  # schedules that choose among the training cases
STARTS = ("scratch", "pooled")
# Methods that need the group of each case at test time.
NEEDS_GROUP_AT_TEST = {"schedule": ("group_specific",), "head": ("moe",)}
# Methods that need two groups to compare, beside samplers and objectives.
_SCHEDULES_BY_GROUP = ("group_specific", "distilled", "last_layer")


def validate(config: ConfigDict, cohort: Cohort, external: Cohort | None = None) -> None:
    """Refuse a run that cannot work, as far as its config and the tables of its cohorts show; no image is read.

    Args:
        config: with or without all fields of configs/default.py.
        cohort: to train on.
        external: for evaluation alone.

    Raises:
        InputError: naming the field, its value and the remedy.
    """
    validate_config(config)
    anatomy.flip_table(cohort.structures)  # refuses a sided structure without its partner
    check_annotations(config.augment.flip, cohort)
    if config.report.get("measurements", False) and not measurements.knees_of(cohort.structures):
        raise InputError(
            f"config.report.measurements=True: the structures are {', '.join(cohort.structures)}; measurements need "
            "femur and tibia: name them in config.data.structures, or leave the field out"
        )
    if cohort.source.online:
        check_online(config, cohort.source.online.redrawn)
    mesh, batch_size = sharding.data_mesh(), config.train.batch_size
    sharding.check_batch_size(batch_size, mesh)
    objective = config.mitigation.objective.name
    sharding.check_micro_batches(config.train.accumulation, objective, batch_size, mesh.devices.size)
    train = cohort.rows("train")
    if batch_size > len(train):
        raise InputError(
            f"config.train.batch_size={batch_size} is more than the {len(train)} training cases; give a smaller one"
        )
    partition = setup.mitigation_groups(cohort, config.mitigation.groups)
    check_groups(config.mitigation, partition, train)
    scored = np.concatenate([cohort.rows("validation"), cohort.rows("test")])
    check_known_groups(config.mitigation, partition, scored, "validation and test")
    setup.training_order(config, cohort, partition, train)
    check_stages(config, cohort, partition)
    if external:
        of_external = partition._replace(index=groups.group_index(external.cases, partition))
        check_known_groups(config.mitigation, of_external, np.arange(len(external.cases)), "external")


def validate_config(config: ConfigDict) -> None:
    """Refuse a config that no cohort could make work: fields, ranges, names and combinations.

    Raises:
        InputError: naming the field, its value and what it may be.
    """
    check_ranges(config)
    check_composition(config.mitigation)
    check_unread_settings(config.mitigation, has_study="study" in config)
    metric_writer.check_profile(config.train.profile)
    for registry, name, field in (
        (losses.LOSSES, config.loss, "loss"),
        (sharding.PARALLEL, config.parallel, "parallel"),
        (checkpoint.SELECTION_RULES, config.select, "select"),
        (scoring.RESOLUTIONS, config.report.resolution, "report.resolution"),
    ):
        lookup(registry, name, f"config.{field}")
    models.create(config.model, classes=2)
    state.create_optimizer(config.optimizer, config.train.steps)


def check_annotations(flip: float, cohort: Cohort) -> None:
    """Refuse masks that show a structure of one side alone, where flips exchange sides, and structures never shown.

    Args:
        flip: `config.augment.flip`.
        cohort: to train on.

    Raises:
        InputError: with the structure.
    """
    kinds = cohort.annotations
    if kinds is None:
        return
    table = anatomy.flip_table(cohort.structures)
    rows = {split: cohort.rows(split) for split in ("train", "validation")}
    trained = [kinds.kinds[number] for number in np.unique(kinds.kind[rows["train"]])]
    one_sided = [kind for kind in trained if (kind.sets != kind.sets[table][:, table]).any()]
    if flip and one_sided:
        raise InputError(
            f"config.augment.flip={flip}: a flip exchanges left and right, but some masks show only "
            f"{', '.join(one_sided[0].names)}; give 0"
        )
    for split, of_split in rows.items():
        is_annotated = kinds.shows_structure(of_split).any(0)
        for name, has_mask in zip(anatomy.scored_structures(cohort.structures), is_annotated, strict=True):
            if not has_mask:
                raise InputError(
                    f"config.data.annotated_column: no mask of a {split} case shows {name!r}; leave it out of "
                    "data.structures, correct the column, or choose other splits"
                )


def check_ranges(config: ConfigDict) -> None:
    """Refuse fields of another type or outside their range, and impossible endpoints and primary families.

    Raises:
        InputError: naming the field, its value and what it may be.
    """
    values = config.copy_and_resolve_references().to_dict() if isinstance(config, ConfigDict) else config
    for old, new in run_files.moved_fields(values).items():
        raise InputError(f"config.{old} is now config.{new}; set that field instead")
    if fault := find_fault(values, CONFIG):
        field = ".".join(filter(None, ("config", fault.place)))
        if fault.place and config_fields.schema_of(fault.place.partition("[")[0]) is None:
            source = values.get("data", {}).get("source", "")
            raise InputError(f"{field}={fault.value}: {config_fields.describe_unknown(fault.place, source)}")
        if fault.value:
            raise InputError(f"{field}={fault.value}: give {fault.expected}")
        raise InputError(f"{field} is missing: give {fault.expected}; configs/default.py has every field")
    settings = endpoints.EndpointSettings(config.report.failure_dice, tuple(config.report.endpoints))
    endpoints.check(settings, "config.report.failure_dice", "config.report.endpoints")
    primary = family.parse(config.report.primary, "config.report.primary")
    family.resolve(primary, config.data.attributes, "config.report.primary")


def check_composition(config: Mapping[str, Any]) -> None:
    """Refuse unknown methods, and combinations of methods that cannot work.

    Args:
        config: the config's `mitigation` section.

    Raises:
        InputError: with the reason.
    """
    sampler, objective, head, schedule = (config[part]["name"] for part in SETTINGS)
    lookup(sampling.SAMPLERS, sampler, "config.mitigation.sampler.name")
    lookup(mitigation.OBJECTIVES, objective, "config.mitigation.objective.name")
    lookup(models.HEADS, head, "config.mitigation.head.name")
    lookup(stages.SCHEDULES, schedule, "config.mitigation.schedule.name")
    lookup(dict.fromkeys(STARTS), config["schedule"]["start"], "config.mitigation.schedule.start")
    balanced, reweighted = sampler in sampling.BALANCING, mitigation.OBJECTIVES[objective].reweights
    if balanced and reweighted:
        _refuse(
            f"sampler {sampler!r} balances the groups, and objective {objective!r} would weight rare groups up once "
            "more; set sampler.name='shuffled' or objective.name='erm'"
        )
    if schedule == "group_specific":
        for part, name, neutral in (
            ("sampler", sampler, "shuffled"),
            ("objective", objective, "erm"),
            ("head", head, "none"),
        ):
            if name != neutral:
                _refuse(
                    f"each model of schedule 'group_specific' sees one group, and {part} {name!r} needs several; set "
                    f"{part}.name={neutral!r}"
                )
    if schedule == "distilled" and head != "none":
        _refuse(
            f"each teacher of schedule 'distilled' sees one group, and head {head!r} needs several; set "
            "head.name='none'"
        )
    if schedule == "jtt" and (balanced or reweighted):
        _refuse(
            f"schedule 'jtt' weights up the cases with the highest loss, and sampler {sampler!r} with objective "
            f"{objective!r} would weight rare groups up as well; set sampler.name='shuffled' and objective.name='erm'"
        )


def check_unread_settings(config: Mapping[str, Any], *, has_study: bool = False) -> None:
    """Refuse a setting that differs from its default and that the named method does not read.

    Args:
        config: the config's `mitigation` section.
        has_study: whether the section is the baseline of a study, whose methods have settings of their own.

    Raises:
        InputError: naming the methods that read it.
    """
    for part, settings in SETTINGS.items():
        method = config[part]["name"]
        for name, setting in settings.items():
            value = config[part][name]
            if method not in setting.methods and value != setting.default:
                do = "do" if len(setting.methods) > 1 else "does"
                other = f"give it to a method, study.settings.METHOD.{part}.{name}"
                raise InputError(
                    f"config.mitigation.{part}.{name}={value!r}: {part} {method!r} does not read {name}; "
                    f"{' and '.join(setting.methods)} {do}; set it back to {setting.default!r}, or "
                    + (other if has_study else f"change {part}.name")
                )


def check_groups(config: Mapping[str, Any], partition: Partition, train: np.ndarray) -> None:
    """Refuse a mitigation by groups without two groups to compare.

    Args:
        config: the config's `mitigation` section.
        partition: of the whole table.
        train: i64[N], the training rows of the table.

    Raises:
        InputError: there is no such objective, fewer than two groups have a training case, or a group that the network
            needs at test time has none.
    """
    objective = lookup(mitigation.OBJECTIVES, config["objective"]["name"], "config.mitigation.objective.name")
    by_group = (
        config["sampler"]["name"] in sampling.BALANCING
        or config["head"]["name"] != "none"
        or objective.uses_groups
        or config["schedule"]["name"] in _SCHEDULES_BY_GROUP
    )
    count = len(np.setdiff1d(partition.index[train], [UNKNOWN]))
    if by_group and count < 2:
        if not partition.attributes:
            raise InputError(
                "config.mitigation: a mitigation by groups needs attributes; name them in data.attributes"
            )
        names = ", ".join(partition.attributes)
        raise InputError(
            f"config.mitigation: the training cases are of {count} known group{'s' * (count != 1)} of {names}, and "
            "a mitigation by groups needs two; set other mitigation.groups"
        )
    untrained = np.setdiff1d(np.arange(len(partition.names)), partition.index[train])
    if len(untrained) and (method := _method_by_group(config)):
        _refuse(
            f"{method} segments each patient by group, but no training case has {partition.names[untrained[0]]}; set "
            "wider groups, another split (config.data.seed) or another method"
        )


def check_known_groups(
    config: Mapping[str, Any], partition: Partition, scored: np.ndarray, split: str
) -> None:
    """Refuse a mitigation that needs the group of each scored case where a group is missing.

    Args:
        config: the config's `mitigation` section.
        partition: of the table.
        scored: i64[N], the rows of the table that are scored.
        split: their name in the error.

    Raises:
        InputError: a group is unknown.
    """
    unknown = int((partition.index[scored] == UNKNOWN).sum())
    if unknown and (method := _method_by_group(config)):
        _refuse(
            f"{method} segments each patient by group, but {unknown} of the {len(scored)} {split} cases are of no "
            f"known group of {', '.join(partition.attributes)}; exclude them with data.levels, the levels to keep, "
            "or set another method"
        )


def check_stages(config: ConfigDict, cohort: Cohort, partition: Partition) -> None:
    """Refuse a schedule of which a stage has too few cases.

    Raises:
        InputError: naming the group or the share.
    """
    schedule, batch_size = config.mitigation.schedule, config.train.batch_size
    train = cohort.rows("train")
    if schedule.name in ("group_specific", "distilled"):
        validation = stages.by_group(cohort.rows("validation"), partition)
        for name, rows, validated in zip(
            partition.names, stages.by_group(train, partition), validation, strict=True
        ):
            if len(rows) < batch_size or not len(validated):
                raise InputError(
                    f"config.mitigation.schedule.name={schedule.name!r}: {name} has {len(rows)} training and "
                    f"{len(validated)} validation cases, and its own model needs at least a batch ({batch_size}) and "
                    "one; set wider groups or smaller batches"
                )
    if schedule.name == "jtt" and not round(schedule.share * len(train)):
        raise InputError(
            f"config.mitigation.schedule.share={schedule.share}: of {len(train)} training cases, jtt would weight up "
            "none; give a larger share"
        )
    if schedule.name == "last_layer":
        sizes = [len(rows) for rows in stages.hold_out(config, cohort)]
        if min(sizes) < batch_size:
            raise InputError(
                f"config.mitigation.schedule.share={schedule.share}: last_layer would train on {sizes[0]} cases and "
                f"hold out {sizes[1]}, and both need at least a batch ({batch_size})"
            )


def check_online(config: ConfigDict, random_columns: Collection[str]) -> None:
    """Refuse what needs the table's training cases, where each case is drawn online and seen once.

    Args:
        config: of a run with `data.phantom.online`.
        random_columns: columns whose value is drawn with each case: a training row's value is that of another case.

    Raises:
        InputError: with the reason.
    """
    schedule, adjustment = config.mitigation.schedule.name, config.mitigation.objective.adjustment
    columns = {
        "data.attributes": config.data.attributes,
        "data.levels": config.data.levels,
        "mitigation.groups": config.mitigation.groups,
    }
    reasons = (
        (
            schedule in FIXED_CASES,
            f"mitigation.schedule.name={schedule!r} chooses among a fixed list of cases",
        ),
        (
            adjustment > 0,
            f"mitigation.objective.adjustment={adjustment} needs a group's number of training patients",
        ),
        (config.data.folds > 0, f"data.folds={config.data.folds} divides a fixed list of patients"),
        (config.report.attribute_leakage, "report.attribute_leakage=True reads the training cases again"),
        *(
            (
                name in random_columns,
                f"{field} holds {name!r}, which is drawn with each case and is not that of the table",
            )
            for field, names in columns.items()
            for name in names
        ),
    )
    for applies, reason in reasons:
        if applies:
            raise InputError(
                f"config.data.phantom.online=True: every training case is new, and {reason}; set one of the two back"
            )


def validate_network(config: ConfigDict, cohort: Cohort, *, initial_weights: bool = True) -> None:
    """Refuse a network that does not fit into memory, and an unusable file of its initial weights.

    Args:
        config: with the network and the size of a batch.
        cohort: with the structures and the grid of the network.
        initial_weights: False to skip the file (`init_from`, `model.weights`), which a trained network does not need.

    Raises:
        InputError: naming the fields to change, or the file.
    """
    model = models.create(config.model, classes=len(cohort.structures) + 1)
    image = jax.ShapeDtypeStruct((1, *cohort.grid), jnp.float32)
    variables = jax.eval_shape(model.init, jax.random.key(0), image)
    size = config.train.batch_size
    memory.require(
        size // config.train.accumulation * training_bytes(model, cohort.grid, remat=config.model.remat),
        f"config.train.batch_size={size} on data.size={tuple(config.data.size)}",
        "give a smaller one of the two, smaller model.widths, a larger train.accumulation, or model.remat=True",
    )
    if initial_weights and config.init_from:
        warm_start.find(config.init_from, config.model, cohort.grid[2])
    elif initial_weights and config.model.weights:
        warm_start.load_imagenet(config.model.weights, variables)


def _method_by_group(config: Mapping[str, Any]) -> str:
    """Return the method that needs the group at test time, for an error: `schedule 'group_specific'`; empty: none."""
    named = ((part, config[part]["name"]) for part in NEEDS_GROUP_AT_TEST)
    return next((f"{part} {name!r}" for part, name in named if name in NEEDS_GROUP_AT_TEST[part]), "")


def _refuse(reason: str) -> None:
    raise InputError(f"config.mitigation: {reason}")
