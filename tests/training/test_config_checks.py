"""What goes together and what is refused, with the reason."""

import operator

import numpy as np
import pytest
from ml_collections import ConfigDict

from configs import default
from configs import study as study_config
from kneefair_jax import groups, mitigation, models
from kneefair_jax.data import sampling
from kneefair_jax.errors import InputError
from kneefair_jax.runtime import run_files
from kneefair_jax.training import config_checks, config_fields, stages
from tests.training import study


def fields(**methods):
    """The `mitigation` section with the methods of some of its parts."""
    config = default.get_config().mitigation
    config.update({part: {"name": name} for part, name in methods.items()})
    return config


def partition(*index):
    return groups.Partition(("race",), ("race=A", "race=B", "race=C"), np.array(index, np.int32))


@pytest.mark.parametrize("objective", mitigation.OBJECTIVES)
@pytest.mark.parametrize("sampler", sampling.SAMPLERS)
def test_only_reweighting_on_balanced_groups_corrects_twice(sampler, objective):
    if sampler in ("undersampled", "oversampled", "equal_share") and objective == "reweighted":
        with pytest.raises(InputError, match=f"sampler '{sampler}' balances the groups, and objective 'rew"):
            config_checks.check_composition(fields(sampler=sampler, objective=objective))
    else:
        config_checks.check_composition(fields(sampler=sampler, objective=objective))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"schedule": "group_specific", "sampler": "equal_share"},
            "one group, and sampler 'equal_share' needs",
        ),
        (
            {"schedule": "group_specific", "objective": "group_dro"},
            "one group, and objective 'group_dro' needs",
        ),
        ({"schedule": "group_specific", "head": "adversarial"}, "one group, and head 'adversarial' needs"),
        ({"schedule": "distilled", "head": "moe"}, "each teacher of schedule 'distilled' sees one group"),
        ({"schedule": "jtt", "sampler": "oversampled"}, "weight rare groups up as well"),
        ({"schedule": "jtt", "objective": "reweighted"}, "weight rare groups up as well"),
        ({"sampler": "magic"}, "mitigation.sampler.name='magic': give one of equal_share"),
        ({"objective": "magic"}, "mitigation.objective.name='magic': give one of cvar_dro"),
        ({"head": "magic"}, "mitigation.head.name='magic': give one of adversarial"),
        ({"schedule": "magic"}, "mitigation.schedule.name='magic': give one of distilled"),
    ],
)
def test_what_cannot_work_is_refused_with_the_reason(changes, message):
    with pytest.raises(InputError, match=message):
        config_checks.check_composition(fields(**changes))


def test_a_model_of_a_group_starts_from_scratch_or_from_the_pooled_model():
    config = fields(schedule="distilled")
    config.schedule.start = "pooled"
    config_checks.check_composition(config)
    config.schedule.start = "magic"
    with pytest.raises(InputError, match=r"mitigation.schedule.start='magic': give one of pooled, scratch"):
        config_checks.check_composition(config)


SETTINGS = [(part, name) for part, settings in config_fields.SETTINGS.items() for name in settings]


@pytest.mark.parametrize(("part", "name"), SETTINGS)
def test_a_setting_that_the_method_does_not_read_is_refused_by_name(part, name):
    setting = config_fields.SETTINGS[part][name]
    value = "pooled" if name == "start" else True if name == "ramp" else setting.default + 1
    methods = {"objective": mitigation.OBJECTIVES, "head": models.HEADS, "schedule": stages.SCHEDULES}[part]
    for method in methods:
        config = fields(**{part: method})
        config_checks.check_unread_settings(config)
        config[part][name] = value
        if method in setting.methods:
            config_checks.check_unread_settings(config)
        else:
            with pytest.raises(
                InputError, match=f"{part}.{name}={value!r}.*{method}.*{setting.methods[-1]} do"
            ):
                config_checks.check_unread_settings(config)


@pytest.mark.parametrize("old", ["mitigation.eta", "mitigation.sampler", "study.settings.jtt.share"])
def test_a_field_of_the_old_layout_is_refused_with_its_new_name(old):
    config = ConfigDict(study_config.get_config().to_dict())
    section, _, name = old.rpartition(".")
    fields = operator.attrgetter(section)(config)
    if name in fields:
        del fields[name]
    fields[name] = "value"
    with pytest.raises(InputError, match=f"config.{old} is now config.{run_files.new_name(old)};"):
        config_checks.validate_config(config)


def test_heads_and_schedules_go_with_the_others():
    for head in models.HEADS:
        for schedule in set(stages.SCHEDULES) - {"group_specific", "distilled"}:
            config_checks.check_composition(fields(head=head, schedule=schedule, objective="group_dro"))
    for schedule in ("distilled", "last_layer"):
        config_checks.check_composition(fields(schedule=schedule, sampler="equal_share"))


@pytest.mark.parametrize(
    ("field", "value", "remedy"),
    [
        ("failure_dice", 1.0, "above 0 and below 1"),
        ("failure_dice", 0.0, "above 0 and below 1"),
        ("endpoints", ("dice<=0.9",), "dice>=0.9"),
        ("endpoints", ("dice>=0.9", "0.9"), "dice>=0.9"),
        ("primary", "length", "dice:sex,race"),
        ("primary", "dice:age", "sex, race"),
    ],
)
def test_endpoints_and_families_that_no_report_can_use_are_refused(field, value, remedy):
    config = default.get_config()
    config_checks.check_ranges(config)
    config.report[field] = value
    with pytest.raises(InputError, match=f"config.report.{field}") as refused:
        config_checks.check_ranges(config)
    assert remedy in str(refused.value)


BY_GROUP = [
    *({"sampler": name} for name in sorted(sampling.BALANCING)),
    *({"objective": name} for name, entry in mitigation.OBJECTIVES.items() if entry.uses_groups),
    *({"head": name} for name in sorted(set(models.HEADS) - {"none"})),
    *({"schedule": name} for name in ("group_specific", "distilled", "last_layer")),
]


@pytest.mark.parametrize("changes", BY_GROUP, ids=str)
def test_a_mitigation_by_groups_needs_two_in_training(changes):
    """The second group is in the rows that are not trained on."""
    given = partition(0, 0, -1, 1, 2)
    with pytest.raises(InputError, match="of 1 known group of race, and a mitigation by groups needs two"):
        config_checks.check_groups(fields(**changes), given, np.arange(3))
    with pytest.raises(InputError, match="of 0 known groups of race"):
        config_checks.check_groups(fields(**changes), given, np.array([2]))
    config_checks.check_groups(fields(**changes), partition(0, 1, 2), np.arange(3))


def test_an_unknown_objective_is_refused_where_groups_are_checked():
    with pytest.raises(InputError, match=r"config\.mitigation\.objective\.name='dro': give one of cvar_dro,"):
        config_checks.check_groups(fields(objective="dro"), partition(0, 1), np.arange(2))


def test_the_rest_needs_no_group():
    for changes in ({}, {"sampler": "proportional"}, {"objective": "cvar_dro"}, {"schedule": "jtt"}):
        config_checks.check_groups(fields(**changes), partition(-1, -1), np.arange(2))
        config_checks.check_known_groups(fields(**changes), partition(-1, -1), np.arange(2), "test")


@pytest.mark.parametrize("changes", [{"schedule": "group_specific"}, {"head": "moe"}], ids=str)
def test_who_is_segmented_by_group_must_have_one(changes):
    given = partition(0, -1, 1, 2, -1)
    with pytest.raises(InputError, match="2 of the 3 external cases are of no known group of race"):
        config_checks.check_known_groups(fields(**changes), given, np.array([1, 2, 4]), "external")
    config_checks.check_known_groups(fields(**changes), given, np.array([0, 2, 3]), "external")
    # Nor can a model segment a group that none has seen.
    with pytest.raises(InputError, match="no training case has race=C"):
        config_checks.check_groups(fields(**changes), given, np.array([0, 1, 2]))
    config_checks.check_groups(fields(head="adversarial"), given, np.array([0, 1, 2]))


@pytest.mark.parametrize("row", [25, 35], ids=["validation", "test"])
@pytest.mark.parametrize("changes", [{"schedule": "group_specific"}, {"head": "moe"}], ids=str)
def test_a_run_checks_all_that_it_scores(changes, row):
    cohort, config = study.cohort(), study.config()
    race = cohort.cases["race"].astype(str)
    race[[3, row]] = ""  # that of a training case may be missing
    config.mitigation.update({"groups": ("race",)} | {part: {"name": name} for part, name in changes.items()})
    with pytest.raises(InputError, match="1 of the 16 validation and test cases are of no known group"):
        config_checks.validate(
            config, cohort._replace(cases=cohort.cases.assign(race=groups.categorical(race)))
        )


def test_a_setting_of_a_study_s_methods_belongs_to_the_methods():
    section = default.get_config().mitigation.to_dict()
    section["objective"]["eta"] = 0.3
    with pytest.raises(InputError, match=r"study\.settings\.METHOD\.objective\.eta"):
        config_checks.check_unread_settings(section, has_study=True)


def partly_annotated(*annotated, structures=None):
    cohort = study.cohort()
    cells = [annotated[row % len(annotated)] for row in range(len(cohort.cases))]
    cohort = cohort._replace(cases=cohort.cases.assign(annotated_structures=cells))
    return cohort._replace(structures=structures) if structures else cohort


def test_a_structure_that_no_training_mask_shows_is_refused():
    config_checks.check_annotations(0.5, study.cohort())
    config_checks.check_annotations(0.5, partly_annotated((), ("disc",)))
    with pytest.raises(InputError, match="annotated_column: no mask of a train case shows 'square'"):
        config_checks.check_annotations(0.5, partly_annotated(("disc",)))


def test_masks_of_one_side_are_refused_where_flips_exchange_sides():
    sides = ("right bone", "left bone")
    one_sided = partly_annotated((), ("left bone",), structures=sides)
    with pytest.raises(InputError, match=r"augment.flip=0.5: .* left bone; give 0"):
        config_checks.check_annotations(0.5, one_sided)
    config_checks.check_annotations(0.0, one_sided)
    config_checks.check_annotations(0.5, partly_annotated((), sides, structures=sides))
