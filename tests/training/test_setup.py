"""What training sees of the samplers; what else is refused before step 0 stands in test_loop."""

import chex
import jax
import numpy as np
import pytest

from kneefair_jax import anatomy, groups, losses, models
from kneefair_jax.data import sampling
from kneefair_jax.errors import InputError
from kneefair_jax.training import config_checks, setup, stages, steps
from tests.training import study


def ordered(**fields):
    config, cohort = study.config(), study.cohort()
    config.mitigation.groups = ("race",)
    config.mitigation.update(fields)
    partition = setup.mitigation_groups(cohort, ("race",))
    return setup.training_order(config, cohort, partition, cohort.rows("train"))[1]


@pytest.mark.parametrize("sampler", sampling.SAMPLERS)
def test_the_sampler_draws_training_cases_by_the_config_s_groups(sampler):
    """18 of the 24 training cases are of race A, 6 of B; batches are of 8."""
    order = ordered(sampler={"name": sampler})
    rows = np.array([order[k] for k in range(24)])
    assert (rows < 24).all()
    rare = (rows % 8 >= 6).reshape(3, 8).sum(1).tolist()
    if sampler in ("proportional", "equal_share"):
        assert rare == {"proportional": [2, 2, 2], "equal_share": [4, 4, 4]}[sampler]
    if sampler == "undersampled":
        assert sum(rare) == 12


def test_weights_that_cannot_be_read_are_refused_before_anything_is_built(tmp_path):
    config, cohort = study.config(), study.cohort()
    config_checks.validate_network(config, cohort)
    config.model.update(
        {"name": "resnet18_unet", "widths": (2,) * 5, "weights": str(tmp_path / "no.safetensors")}
    )
    with pytest.raises(InputError, match="no.safetensors"):
        config_checks.validate_network(config, cohort)


@pytest.mark.parametrize(
    ("ramp", "stage_steps", "ramp_steps"), [(False, None, 0), (True, None, 40), (True, 7, 7)]
)
def test_the_step_has_the_config_s_mitigation_settings(ramp, stage_steps, ramp_steps, monkeypatch):
    """`tests.training.test_steps` has what they do."""

    class BuiltError(Exception):
        pass

    def stop(definition):
        raise BuiltError(definition.options)

    monkeypatch.setattr(steps, "make_train_step", stop)
    config = study.config()
    config.train.steps = 40
    config.mitigation.update(
        {
            "groups": ("race",),
            "sharpness": 0.25,
            "head": {"name": "adversarial", "ramp": ramp},
            "schedule": {"name": "distilled", "temperature": 3.5, "distillation": 0.75},
        }
    )
    with pytest.raises(BuiltError) as built:
        setup.build(config, study.cohort(), setup.Stage(steps=stage_steps))
    assert built.value.args == (
        steps.StepOptions(sharpness=0.25, distillation=0.75, temperature=3.5, ramp_steps=ramp_steps),
    )


def test_the_stages_of_a_run_start_from_the_variables_drawn_once(monkeypatch):
    """Their states are their own: a training step donates its state."""
    config, cohort = study.config(), study.cohort()
    config.train.ema = 0.9
    drawn = setup.build(config, cohort).state
    monkeypatch.setattr(models.UNet, "init", None)
    stage = setup.build(config, cohort, setup.Stage(objective="erm"), drawn.variables).state
    chex.assert_trees_all_equal(stage, drawn)
    for leaf in jax.tree.leaves(stage):
        leaf.delete()
    assert not any(leaf.is_deleted() for leaf in jax.tree.leaves(drawn))


@pytest.mark.parametrize("classes", [anatomy.SCHEMES["knee"], anatomy.SCHEMES["knee_overlaps"]])
def test_the_loss_is_map_native_bones_of_overlap_classes_alone(classes, monkeypatch):
    class BuiltError(Exception):
        pass

    def stop(definition):
        raise BuiltError(definition.loss)

    monkeypatch.setattr(steps, "make_train_step", stop)
    config = study.config()
    config.mitigation.groups = ("race",)
    with pytest.raises(BuiltError) as built:
        setup.build(config, study.cohort()._replace(structures=classes))
    (loss,) = built.value.args
    if classes == anatomy.SCHEMES["knee"]:
        assert loss is losses.dice_cross_entropy
    else:
        members = anatomy.membership(classes, anatomy.whole_bones(classes))
        np.testing.assert_array_equal(loss.keywords["regions"], members)


@pytest.mark.slow
def test_overlap_classes_are_trained_and_validated_as_whole_bones():
    """The loss and the scores of the eval step against those of the network's probabilities."""
    config, classes = study.config(), anatomy.SCHEMES["knee_overlaps"]
    config.mitigation.groups = ("race",)
    built = setup.build(config, study.cohort()._replace(structures=classes))
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (2, *study.GRID), dtype=np.uint8)
    label = rng.integers(0, 7, (2, *study.GRID[:2])).astype(np.uint8)
    batch = {"image": image, "label": label, "group": np.zeros(2, np.int32)}
    scores = built.eval_step(built.state.variables, batch)
    logits = built.model.apply(built.state.variables, models.standardize(image), group=batch["group"])
    members = anatomy.membership(classes, anatomy.whole_bones(classes))
    expected = losses.dice_cross_entropy(logits, label.astype(np.int32), regions=members)
    np.testing.assert_allclose(scores["loss"], expected, rtol=1e-5)
    predicted, true = (np.moveaxis(members[:, mask], 0, 1) for mask in (np.asarray(logits.argmax(-1)), label))
    both = 2 * (predicted & true).sum((2, 3))
    np.testing.assert_allclose(scores["dice"], both / (predicted.sum((2, 3)) + true.sum((2, 3))), rtol=1e-6)


def notes(batch_size=2, **mitigation):
    """Of 24 training cases, 18 are of race A and 6 of B."""
    config = study.config(batch_size=batch_size, steps=100)
    config.mitigation.update({"groups": ("race",), "objective": {"name": "group_dro"}, **mitigation})
    return setup.single_group_notes(config, study.cohort())


def test_batches_are_counted_by_hand():
    partition = groups.Partition(("sex",), ("sex=f", "sex=m"), np.array([0, 1, 0, -1], np.int32))
    order = [0, 1, 0, 2, 3, 3, 1, 3, 2, 1]
    assert setup.count_single_group_batches(order, partition, 2, 5) == 3  # 0 2, 3 3 and 1 3
    assert setup.count_single_group_batches(order, partition, 1, 10) == 10


@pytest.mark.parametrize("objective", ["group_dro", "vrex", "gap_penalty", "error_bound"])
def test_batches_of_one_case_are_noted(objective):
    (note,) = notes(batch_size=1, objective={"name": objective})
    assert "100 of the first 100 batches" in note and repr(objective) in note and "equal_share" in note


def test_a_sampler_that_seldom_draws_the_rare_group_is_noted():
    """Chance that two of 24 cases are of one race: (18 x 17 + 6 x 5) / (24 x 23) = 61 %."""
    (note,) = notes()
    count = int(note.partition(" of the first")[0].rpartition(" ")[2])
    assert 50 <= count <= 72


@pytest.mark.parametrize(
    "changes",
    [
        {"sampler": {"name": "equal_share"}},
        {"objective": {"name": "erm"}},
        {"objective": {"name": "reweighted"}},
        {"objective": {"name": "cvar_dro"}},
        {"batch_size": 16},
    ],
    ids=str,
)
def test_what_loses_nothing_by_it_is_not(changes):
    assert notes(**changes) == []


@pytest.mark.parametrize(
    ("part", "name", "known"), [("objective", "dro", "cvar_dro"), ("sampler", "fair", "equal_share")]
)
def test_an_unknown_objective_or_sampler_is_refused_by_the_notes(part, name, known):
    with pytest.raises(
        InputError, match=rf"config\.mitigation\.{part}\.name='{name}': give one of .*{known}"
    ):
        notes(**{part: {"name": name}})


@pytest.mark.parametrize(
    ("field", "known"),
    [
        ("loss", "focal"),
        ("parallel", "pmap"),
        ("model.name", "unet"),
        ("optimizer.name", "adamw"),
        ("optimizer.schedule", "cosine"),
        ("mitigation.head.name", "adversarial"),
        ("mitigation.sampler.name", "equal_share"),
        ("mitigation.objective.name", "group_dro"),
    ],
)
def test_an_unknown_name_is_refused_with_the_known_ones(field, known):
    config = study.config()
    config.mitigation.groups = ("race",)
    config.update_from_flattened_dict({field: "absent"})
    with pytest.raises(InputError, match=rf"^config\.{field}='absent': give one of .*{known}"):
        setup.build(config, study.cohort())


def test_an_unknown_schedule_is_refused_with_the_known_ones(tmp_path):
    config = study.config()
    config.mitigation.schedule.name = "absent"
    with pytest.raises(InputError, match=r"^config\.mitigation\.schedule\.name='absent': .*group_specific"):
        stages.train(config, None, None, tmp_path, None)


def test_a_cohort_that_is_not_trained_on_has_no_batches():
    config, cohort = study.config(), study.cohort()
    config.mitigation.objective.name = "group_dro"
    assert setup.single_group_notes(config, cohort._replace(cases=cohort.cases.assign(split="test"))) == []
