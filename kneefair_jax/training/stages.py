"""The schedules of a mitigation: the models to train, one stage after another.

Each stage is a run of the loop in its own folder, so an interrupted schedule resumes where it stopped. The last stage
of `single`, `jtt` and `last_layer` is in the run's own folder and takes `train.steps` steps (`last_layer`'s takes
`mitigation.schedule.extra_steps`); the models of `group_specific` take `train.steps` each.
"""

import contextlib
import logging
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
from ml_collections import ConfigDict

from kneefair_jax.data import typed_tables
from kneefair_jax.data.cohort_loader import Cohort
from kneefair_jax.data.pipeline import Arrays
from kneefair_jax.errors import lookup
from kneefair_jax.groups import Partition
from kneefair_jax.runtime import atomic, distributed
from kneefair_jax.safe_text import spreadsheet_cell
from kneefair_jax.training import checkpoint, loop, scoring, setup
from kneefair_jax.training.checkpoint import Checkpoints
from kneefair_jax.training.scoring import STAGES
from kneefair_jax.training.setup import Experiment, Stage

logger = logging.getLogger(__name__)

UPWEIGHTED = "upweighted.csv"

# Selects the checkpoint of a stage that others start or learn from; `config.select` may change between two starts.
STAGE_RULE = checkpoint.overall


class Run(NamedTuple):
    """The inputs that all stages share; `experiment` is the run of the config itself."""

    config: ConfigDict
    cohort: Cohort
    cases: Arrays
    workdir: Path
    experiment: Experiment

    def train_stage(self, directory: str, stage: Stage, label: str) -> Experiment:
        """Train one stage in a folder within the run's; the label is for the terminal."""
        logger.info("stage: %s", label)
        # Every stage starts from the variables that were drawn for the run, unless it has its own.
        variables = self.experiment.state.variables
        experiment = setup.build(self.config, self.cohort, stage, variables)
        self.train(directory, experiment, initial_weights=stage.start is None)
        return experiment

    def train(self, directory: str, experiment: Experiment, *, initial_weights: bool) -> None:
        """Train an experiment in a folder of the run; `initial_weights` says whether it starts from the config's."""
        folder = self.workdir / directory
        folder.mkdir(parents=True, exist_ok=True)
        file = self.config.init_from or self.config.model.weights
        if file and initial_weights and not _has_checkpoint(folder):
            experiment = setup.with_initial_weights(self.config, self.cohort, experiment)
        loop.train(self.config, experiment, self.cohort, self.cases, folder)

    def best_variables(self, directory: str, experiment: Experiment) -> dict[str, Any]:
        """Return the variables of a trained stage's best checkpoint."""
        with Checkpoints(self.workdir / directory / "checkpoints") as checkpoints:
            step = STAGE_RULE(checkpoints.records())["step"]
            return checkpoints.variables(step, experiment.state)


def _has_checkpoint(folder: Path) -> bool:
    """Return whether a stage resumes from an intact checkpoint, so that its initial weights do not matter."""
    checkpoint.set_damaged_aside(folder / "checkpoints")
    with contextlib.closing(Checkpoints(folder / "checkpoints")) as checkpoints:
        return checkpoints.latest() is not None


def single(run: Run) -> None:
    """Train one model: the run of the config."""
    run.train("", run.experiment, initial_weights=True)


def group_specific(run: Run) -> list[dict[str, Any]]:
    """Train one model a group on that group's patients, from scratch or from a pooled model (`schedule.start`).

    Each model is selected on its group's validation patients, and segments its group's test patients.

    Reference: Siddiqui et al., 2024; Puyol-Antón et al., 2021.

    Returns:
        The models' variables, in the order of the groups.
    """
    cohort, partition = run.cohort, run.experiment.partition
    train, validation = (by_group(cohort.rows(split), partition) for split in ("train", "validation"))
    start = None
    if run.config.mitigation.schedule.start == "pooled":
        folder, stage = f"{STAGES}/pooled", Stage(sampler="shuffled", objective="erm", number=1)
        start = run.best_variables(folder, run.train_stage(folder, stage, "the pooled model"))
    variables = []
    for g, model in enumerate(scoring.models_by_group(partition)):
        stage = Stage(
            train=train[g],
            validation=validation[g],
            sampler="shuffled",
            objective="erm",
            start=start,
            number=2 + g,  # 0 is the last stage, 1 the pooled model
        )
        experiment = run.train_stage(model.directory, stage, f"the model of {model.name}")
        variables.append(run.best_variables(model.directory, experiment))
    return variables


def distilled(run: Run) -> None:
    """Train the models of `group_specific`, then a student that each teaches on its own group (FairDi).

    `steps.distillation` has the formula.
    """
    teachers = jax.tree.map(lambda *leaves: jnp.stack(leaves), *group_specific(run))
    run.train_stage("", Stage(teachers=teachers), "the student")


def jtt(run: Run) -> None:
    """Just train twice: weight up the cases with the highest loss after a short first run, and train again.

    There are no misclassified examples in segmentation, so the share `schedule.share` of the training cases with the
    highest loss is weighted up. Weights are divided by their mean, so that the learning rate keeps its meaning. The
    method uses no group label.

    Reference: Liu et al., Just train twice, ICML 2021.
    """
    settings, cohort = run.config.mitigation.schedule, run.cohort
    train = cohort.rows("train")
    path = run.workdir / UPWEIGHTED
    if path.exists():  # chosen once: another number of devices could round another way
        table = typed_tables.read_run_csv(
            path, ("case_id",), (), "delete it, and the first run chooses again"
        )
    else:
        losses = _losses_of_first_run(run, train)
        worst = train[np.argsort(-losses, kind="stable")[: round(settings.share * len(train))]]
        table = pd.DataFrame({"case_id": cohort.cases["case_id"].iloc[np.sort(worst)]})
        if distributed.is_primary():
            atomic.write_text(path, table.map(spreadsheet_cell).to_csv(index=False))
        # Every host uses its own table: on a shared disk, the others may see the file only later.
        distributed.barrier(UPWEIGHTED)
    ids = cohort.cases["case_id"]
    upweighted = (ids.isin(table["case_id"]) | ids.map(spreadsheet_cell).isin(table["case_id"])).to_numpy()
    weight = np.where(upweighted, settings.upweight, 1.0)
    run.train_stage("", Stage(weight=weight / weight[train].mean()), "the second run")


def _losses_of_first_run(run: Run, train: np.ndarray) -> np.ndarray:
    """Train the first run of `jtt` and return its losses f32[N] on the training rows."""
    folder = f"{STAGES}/first"
    stage = Stage(sampler="shuffled", objective="erm", steps=run.config.mitigation.schedule.extra_steps)
    experiment = run.train_stage(folder, stage, "the first run")
    with Checkpoints(run.workdir / folder / "checkpoints") as checkpoints:
        variables = checkpoints.variables(experiment.steps, experiment.state)
    scores = scoring.predict_cases(
        experiment.eval_step,
        variables,
        run.cases,
        train,
        group=experiment.partition.index,
        batch_size=run.config.train.batch_size,
    )
    return np.asarray(scores["loss"])


def last_layer(run: Run) -> None:
    """Deep feature reweighting: train the last layer alone again, on balanced patients that the first run did not see.

    The share `schedule.share` of each group's training patients is held out of the first run. From its best checkpoint
    the last layer is then trained on them, with equal shares of the groups; nothing else changes.

    The paper instead fits a logistic regression with an L1 penalty to standardized features, and averages the layers of
    several balanced subsets, redrawn at random. Here the run's own loss and optimizer train one layer, for
    `schedule.extra_steps` steps, without a penalty.

    Reference: Kirichenko et al., Last layer re-training is sufficient, ICLR 2023.
    """
    train, held_out = hold_out(run.config, run.cohort)
    folder = f"{STAGES}/first"
    variables = run.best_variables(folder, run.train_stage(folder, Stage(train=train), "the first run"))
    stage = Stage(
        train=held_out,
        sampler="equal_share",
        objective="erm",
        steps=run.config.mitigation.schedule.extra_steps,
        start=variables,
        trainable="head",
    )
    run.train_stage("", stage, "the last layer")


def by_group(rows: np.ndarray, partition: Partition) -> list[np.ndarray]:
    """Return the rows of each group; those of unknown group are in none."""
    return [rows[partition.index[rows] == g] for g in range(len(partition.names))]


def hold_out(config: ConfigDict, cohort: Cohort) -> tuple[np.ndarray, np.ndarray]:
    """Split the training rows by patient: those of the first run, and those of the last layer.

    A random `schedule.share` of each group's patients is held out, rounded up so that every group has one.
    """
    partition = setup.mitigation_groups(cohort, config.mitigation.groups)
    rows, rng = cohort.rows("train"), np.random.default_rng(config.seed)
    patient = cohort.cases["patient_id"].to_numpy()
    share = config.mitigation.schedule.share
    patients = [np.unique(patient[members]) for members in by_group(rows, partition)]
    chosen = [rng.choice(group, math.ceil(share * len(group)), replace=False) for group in patients]
    held_out = np.isin(patient[rows], np.concatenate(chosen))
    return rows[~held_out], rows[held_out]


SCHEDULES: dict[str, Callable[[Run], Any]] = {
    "single": single,
    "group_specific": group_specific,
    "distilled": distilled,
    "jtt": jtt,
    "last_layer": last_layer,
}


def train(config: ConfigDict, cohort: Cohort, cases: Arrays, workdir: Path, experiment: Experiment) -> None:
    """Train the models of the config's schedule, from the newest checkpoints if there are some.

    Args:
        config: of the run.
        cohort: to train on.
        cases: its prepared cases.
        workdir: the run's folder.
        experiment: the run of the config, from `setup.build`; a step donates its state.
    """
    schedule = lookup(SCHEDULES, config.mitigation.schedule.name, "config.mitigation.schedule.name")
    schedule(Run(config, cohort, cases, workdir, experiment))
