"""Schedules of several models, end to end on the tiny cohort: who learns from whom, and what a kill leaves."""

import json
import shutil
from typing import NamedTuple

import chex
import jax
import numpy as np
import pandas as pd
import pytest

from kneefair_jax import groups, losses, models
from kneefair_jax.errors import InputError
from kneefair_jax.evaluation import evaluate
from kneefair_jax.runtime import run_directory
from kneefair_jax.training import config_checks, metric_writer, scoring, setup, stages
from kneefair_jax.training.checkpoint import Checkpoints
from tests.training import study

COHORT = study.cohort()
TRAIN, TEST = COHORT.rows("train"), COHORT.rows("test")
PATIENT = COHORT.cases["patient_id"].to_numpy()
SEX = (COHORT.cases["sex"] == "male").to_numpy().astype(int)


class Cases(list):
    """The prepared cases, in memory."""

    digest = "pixels"
    excluded: tuple[tuple[str, str], ...] = ()


CASES = Cases(study.example(row).arrays() for row in range(len(COHORT.cases)))


class Run(NamedTuple):
    """A run that has been trained: its config, its folder, and what was built for each of its stages."""

    config: object
    workdir: object
    stages: list
    experiments: list

    def state(self, directory, step, stage=-1):
        checkpoints = Checkpoints(self.workdir / directory / "checkpoints")
        state, *_ = checkpoints.restore(step, self.experiments[stage].state)
        checkpoints.close()
        return state

    def records(self, directory):
        checkpoints = Checkpoints(self.workdir / directory / "checkpoints")
        records = checkpoints.records()
        checkpoints.close()
        return records

    def selected(self, directory):
        """Variables of a stage's best checkpoint, worked out here: the highest mean, the earlier of equals."""
        best = max(self.records(directory), key=lambda r: (r["overall"], -r["step"]))["step"]
        (variables,) = scoring.restore(
            self.workdir, [scoring.GroupModel(directory)], [best], self.experiments[0].state
        )
        return jax.device_get(variables)


def run(workdir, cohort=COHORT, **mitigation):
    config = study.config(steps=4, eval_every=2)
    config.model.widths = (4,)
    config.augment = dict.fromkeys(config.augment, 0.0)
    config.optimizer.update({"name": "adamw", "weight_decay": 0.1, "learning_rate": 1e-2})
    config.mitigation.update(mitigation)
    if config.mitigation.schedule.name in ("jtt", "last_layer"):
        config.mitigation.schedule.extra_steps = 4
    config_checks.validate(config, cohort)
    result = Run(config, workdir, [], [])
    build = setup.build

    def spy(config, cohort, stage, variables):
        experiment = build(config, cohort, stage, variables)
        result.stages.append(stage)
        # Steps donate their state: keep what it was.
        result.experiments.append(experiment._replace(state=jax.tree.map(np.asarray, experiment.state)))
        return experiment

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(setup, "build", spy)
        stages.train(config, cohort, CASES, workdir, build(config, cohort))
    return result


@pytest.fixture(scope="module")
def last_layer(tmp_path_factory):
    return run(
        tmp_path_factory.mktemp("last_layer"), schedule={"name": "last_layer", "share": 0.4}, groups=("race",)
    )


@pytest.fixture(scope="module")
def jtt(tmp_path_factory):
    return run(tmp_path_factory.mktemp("jtt"), schedule={"name": "jtt", "share": 0.25})


@pytest.fixture(scope="module")
def group_specific(tmp_path_factory):
    return run(tmp_path_factory.mktemp("members"), schedule={"name": "group_specific", "start": "pooled"})


def test_the_last_layer_alone_moves(last_layer):
    """The trap: "frozen" parameters that move, by weight decay or as batch statistics."""
    first = last_layer.selected("stages/first")
    state = jax.device_get(last_layer.state("", 4))
    chex.assert_trees_all_equal(state.batch_stats, first["batch_stats"])
    params, before = dict(state.params), dict(first["params"])
    changes = jax.tree.map(lambda a, b: np.abs(a - b).max(), params.pop("head"), before.pop("head"))
    assert min(jax.tree.leaves(changes)) > 1e-5
    chex.assert_trees_all_equal(params, before)


def test_the_last_layer_learns_from_patients_who_are_new_to_the_rest(last_layer):
    first, second = last_layer.stages
    assert not set(PATIENT[first.train]) & set(PATIENT[second.train])
    np.testing.assert_array_equal(np.sort(np.concatenate([first.train, second.train])), TRAIN)
    # 9 patients of race A and 3 of B, of whom 40 % are 3.6 and 1.2.
    held_out = COHORT.cases.iloc[second.train].drop_duplicates("patient_id")["race"]
    assert held_out.value_counts().to_dict() == {"A": 4, "B": 2}
    order, rare = last_layer.experiments[1].order, (COHORT.cases["race"] == "B").to_numpy()
    rows = np.array([order[k] for k in range(16)])
    assert set(rows) <= set(second.train) and rare[rows].reshape(2, 8).sum(1).tolist() == [4, 4]


def test_a_rule_s_checkpoint_is_restored_without_the_stage_s_optimizer(last_layer):
    """Whoever scores a run builds it from the config alone, whose optimiser moves all of the network."""
    like = setup.build(last_layer.config, COHORT).state
    (selected,) = scoring.restore(last_layer.workdir, [scoring.GroupModel()], [4], like)
    chex.assert_trees_all_equal(selected, last_layer.state("", 4).variables)


def test_the_effort_of_a_run_is_that_of_all_its_stages(last_layer):
    steps, seconds = scoring.effort(last_layer.workdir)
    assert steps == 4 + last_layer.config.mitigation.schedule.extra_steps
    assert seconds > 0


def test_every_group_has_held_out_patients_and_unknown_ones_stay():
    config = study.config()
    config.mitigation.update({"groups": ("race",), "schedule": {"share": 0.1}})
    race = COHORT.cases["race"].astype(str)
    race[:4] = ""
    cohort = COHORT._replace(cases=COHORT.cases.assign(race=groups.categorical(race)))
    trained, held_out = stages.hold_out(config, cohort)
    assert set(cohort.cases["race"].iloc[held_out]) == {"A", "B"} and set(range(4)) <= set(trained)
    config.seed = 1
    assert set(stages.hold_out(config, cohort)[1]) != set(held_out)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"schedule": {"name": "last_layer", "share": 0.1}}, "hold out 4, and both need at least a batch"),
        ({"schedule": {"name": "last_layer", "share": 1.0}}, "train on 0 cases"),
        ({"schedule": {"name": "jtt", "share": 0.01}}, "of 24 training cases, jtt would weight up none"),
        (
            {"schedule": {"name": "group_specific"}, "groups": ("race",)},
            "race=B has 6 training and 2 validation cases",
        ),
        (
            {"schedule": {"name": "distilled"}, "groups": ("race",)},
            "race=B has 6 training and 2 validation cases",
        ),
    ],
)
def test_stages_with_too_few_cases_are_refused(changes, message):
    config = study.config()
    config.mitigation.update(changes)
    with pytest.raises(InputError, match=message):
        config_checks.validate(config, COHORT)


def test_what_the_first_run_gets_worst_counts_more(jtt):
    table = pd.read_csv(jtt.workdir / "upweighted.csv")["case_id"].tolist()
    image = np.stack([CASES[row]["image"] for row in TRAIN])
    label = np.stack([CASES[row]["label"] for row in TRAIN]).astype(np.int32)
    variables = jtt.state("stages/first", 4, stage=0).variables
    logits = jtt.experiments[0].model.apply(jax.device_get(variables), models.standardize(image))
    worst = np.argsort(losses.dice_cross_entropy(logits, label))[-6:]  # a quarter of 24
    assert table == [f"c{row:02d}" for row in sorted(TRAIN[worst])]
    weight = jtt.stages[1].weight
    np.testing.assert_allclose(weight[TRAIN].mean(), 1)
    np.testing.assert_allclose(weight[TRAIN[worst]], 5 / 2)  # 5 over the mean of 6 x 5 and 18 x 1, 2
    np.testing.assert_allclose(np.delete(weight[TRAIN], worst), 1 / 2)


def test_just_train_twice_asks_for_no_group_and_decides_once(jtt, tmp_path):
    nobody = COHORT.cases.assign(sex=groups.categorical(pd.Series("", index=COHORT.cases.index)))
    again = run(tmp_path, COHORT._replace(cases=nobody), schedule={"name": "jtt", "share": 0.25})
    assert (tmp_path / "upweighted.csv").read_text() == (jtt.workdir / "upweighted.csv").read_text()
    chex.assert_trees_all_equal(again.state("", 4).params, jtt.state("", 4).params)
    # Another start of the same run takes the file's word, without a first run to ask.
    shutil.rmtree(tmp_path / "stages")
    (tmp_path / "upweighted.csv").write_text("case_id\nc05\n")
    third = run(tmp_path, COHORT._replace(cases=nobody), schedule={"name": "jtt", "share": 0.25})
    assert len(third.stages) == 1 and np.argmax(third.stages[0].weight) == 5


def test_a_case_may_be_called_na(tmp_path, monkeypatch):
    """What pandas takes for a missing value is a name like any other."""
    (tmp_path / "upweighted.csv").write_text("case_id\nNA\n")
    cohort = COHORT._replace(cases=COHORT.cases.assign(case_id=["NA", *COHORT.cases["case_id"][1:]]))
    seen = []
    monkeypatch.setattr(
        stages.Run, "train_stage", lambda self, directory, stage, label: seen.append(stage.weight)
    )
    stages.jtt(stages.Run(study.config(), cohort, CASES, tmp_path, None))
    np.testing.assert_allclose(seen[0], np.where(np.arange(40) == 0, 5, 1) / (28 / 24))


def test_each_group_has_a_model_of_its_own_patients(group_specific):
    pooled, *of_groups = group_specific.stages
    assert pooled.train is None and len(of_groups) == 2
    start = group_specific.selected("stages/pooled")
    for g, (stage, experiment) in enumerate(zip(of_groups, group_specific.experiments[1:], strict=True)):
        np.testing.assert_array_equal(stage.train, TRAIN[SEX[TRAIN] == g])
        assert {experiment.order[k] for k in range(12)} == set(stage.train)
        chex.assert_trees_all_equal(experiment.state.variables, start)
        name = ("sex=female", "sex=male")[g]
        for record in group_specific.records(f"stages/group_{g}"):
            assert record["groups"] == {name: record["overall"]}


def test_each_test_case_is_scored_by_the_model_of_its_own_group(group_specific):
    """On the common test split; checked against the scores of each model, case by case."""
    config, workdir = group_specific.config, group_specific.workdir
    run_directory.open_run(workdir, config, table="t", pixels="p")
    external = study.cohort(8)
    table = external.cases.assign(split="external", case_id=[f"x{i}" for i in range(8)])
    experiment = setup.build(config, COHORT)
    evaluate.evaluate(config, experiment, COHORT, CASES, workdir, (external._replace(cases=table), CASES))
    scored = pd.read_parquet(workdir / "cases.parquet")
    scored = scored[scored["model"] == "overall"].set_index("case_id")
    own = [group_specific.selected(f"stages/group_{g}") for g in range(2)]
    for rows, name in ((TEST, "c{:02d}"), (COHORT.rows("validation"), "c{:02d}"), (np.arange(8), "x{}")):
        image = np.stack([CASES[row]["image"] for row in rows])
        of_model = [np.asarray(experiment.model.apply(v, models.standardize(image)).argmax(-1)) for v in own]
        for place, row in enumerate(rows):
            predicted, true = of_model[SEX[row]][place], CASES[row]["label"]
            for s, structure in enumerate(study.STRUCTURES, start=1):
                p, t = predicted == s, true == s
                cells = scored.loc[[name.format(row)]].set_index("structure")
                expected = 2 * (p & t).sum() / (p.sum() + t.sum())
                np.testing.assert_allclose(cells.loc[structure, "dice"], expected, rtol=1e-6)
    with np.load(workdir / "predictions.npz") as saved:
        assert sorted(saved) == [f"c{row:02d}" for row in TEST]
    report = json.loads((workdir / "report" / "report.json").read_text())
    assert set(report["run"]["step"]) == {"sex=female", "sex=male"}
    assert report["scores"]["dice"]["overall"]["cases"] == len(TEST)


def test_distillation_is_the_divergence_from_the_own_group_s_teacher():
    rng = np.random.default_rng(0)
    logits, taught = rng.normal(size=(3, 2, 2, 4)), rng.normal(size=(2, 3, 2, 2, 4))
    group = np.array([1, 0, -1])
    divergence = losses.distillation(logits, taught, group)

    def softmax(x):
        return np.exp(x) / np.exp(x).sum(-1, keepdims=True)

    for i in (0, 1):
        p, q = softmax(taught[group[i], i]), softmax(logits[i])
        np.testing.assert_allclose(divergence[i], (p * np.log(p / q)).sum(-1).mean(), rtol=1e-5)
    assert divergence[2] == 0


def test_a_student_learns_from_the_models_of_the_groups(group_specific, tmp_path):
    # The teachers are those of the run there: only the student is trained.
    shutil.copytree(group_specific.workdir / "stages", tmp_path / "stages")
    student = run(tmp_path, schedule={"name": "distilled", "start": "pooled", "distillation": 3.0})
    experiment = student.experiments[-1]
    own = [group_specific.selected(f"stages/group_{g}") for g in range(2)]
    rows = np.array([experiment.order[k] for k in range(8)])
    image = models.standardize(np.stack([CASES[row]["image"] for row in rows]))
    logits, _ = experiment.model.apply(experiment.state.variables, image, train=True, mutable="batch_stats")
    q = jax.nn.log_softmax(logits)
    divergence = 0.0
    for g in range(2):
        p = jax.nn.log_softmax(experiment.model.apply(own[g], image))
        divergence += ((np.exp(p) * (p - q)).sum(-1).mean((1, 2)) * (SEX[rows] == g)).mean()
    first = metric_writer.read(tmp_path / "metrics.jsonl")[0]
    assert first["step"] == 1
    np.testing.assert_allclose(first["auxiliary"], 3 * divergence, rtol=1e-4)
    assert divergence > 1e-4


@pytest.mark.parametrize("schedule", ["last_layer", pytest.param("jtt", marks=pytest.mark.slow)])
def test_a_schedule_that_was_killed_ends_as_one_that_was_not(schedule, request, tmp_path, monkeypatch):
    """Killed in its second stage, when the last checkpoint was due."""
    straight = request.getfixturevalue(schedule)
    real, saved = Checkpoints.save, []

    def cut(self, state, validation, seconds, pending=()):
        saved.append(int(state.step))
        if len(saved) == 4:
            raise KeyboardInterrupt
        real(self, state, validation, seconds, pending)

    mitigation = straight.config.mitigation.to_dict()
    monkeypatch.setattr(Checkpoints, "save", cut)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, **mitigation)
    monkeypatch.undo()
    assert saved == [2, 4, 2, 4]
    resumed = run(tmp_path, **mitigation)
    chex.assert_trees_all_equal(straight.state("", 4), resumed.state("", 4))
    assert straight.records("") == resumed.records("")
