"""A mitigation's stages: which models are trained, one after another, and which of them segments whom.

Each stage is a run of the loop in a folder of its own, so a schedule that was cut off goes on where it was. The last
one of `single`, `jtt` and `last_layer` is in the run's own folder and takes `train.steps` steps (`last_layer`'s takes
`mitigation.extra_steps`); the models of `group_specific` take `train.steps` each.
"""

import contextlib
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
from kneefair_jax.data.case_arrays import Arrays
from kneefair_jax.data.cohort_loader import Cohort
from kneefair_jax.errors import InputError
from kneefair_jax.groups import Partition
from kneefair_jax.runtime import atomic, distributed
from kneefair_jax.safe_text import spreadsheet_cell
from kneefair_jax.training import checkpoint, group_models, loop, scoring, selection, setup
from kneefair_jax.training.checkpoint import Checkpoints
from kneefair_jax.training.group_models import STAGES
from kneefair_jax.training.setup import Experiment, Stage

UPWEIGHTED = "upweighted.csv"

# The checkpoint of a stage that others start from or learn from; `config.select` may change between two starts.
INNER_RULE = selection.overall


class Run(NamedTuple):
    """What all stages share."""

    config: ConfigDict
    cohort: Cohort
    cases: Arrays
    workdir: Path

    def stage(self, directory: str, stage: Stage = setup.WHOLE, *, name: str = "") -> Experiment:
        """Trains one stage in a folder within the run's; its name, if it has one, is for the terminal."""
        if name:
            print(f"stage: {name}", flush=True)
        made = setup.build(self.config, self.cohort, stage)
        folder = self.workdir / directory
        folder.mkdir(parents=True, exist_ok=True)
        named = self.config.init_from or self.config.model.weights
        if named and stage.start is None and not _has_begun(folder):
            made = setup.started(self.config, self.cohort, made)
        loop.train(self.config, made, self.cohort, self.cases, folder)
        return made

    def variables(self, directory: str, made: Experiment) -> dict[str, Any]:
        """Of a trained stage's best checkpoint."""
        checkpoints = Checkpoints(self.workdir / directory / "checkpoints")
        variables = checkpoints.variables(INNER_RULE(checkpoints.records())["step"], made.state)
        checkpoints.close()
        return variables


def _has_begun(folder: Path) -> bool:
    """Whether a stage goes on from a checkpoint that is whole, so that nobody asks where it started."""
    checkpoint.set_damaged_aside(folder / "checkpoints")
    with contextlib.closing(Checkpoints(folder / "checkpoints")) as checkpoints:
        return checkpoints.latest() is not None


def single(run: Run) -> None:
    """One run."""
    run.stage("")


def group_specific(run: Run) -> list[dict[str, Any]]:
    """One model a group, trained and selected on that group's patients; `mitigation.start` says from where.

    Siddiqui et al. 2024; Puyol-Antón et al. 2021. Each patient of the common test split is segmented by the model of
    the own group.

    Returns:
        The models' variables, in the order of the groups.
    """
    config, cohort = run.config, run.cohort
    partition = setup.mitigation_groups(cohort, config.mitigation.groups)
    train, validation = (by_group(cohort.rows(split), partition) for split in ("train", "validation"))
    start = None
    if config.mitigation.start == "pooled":
        pooled, stage = f"{STAGES}/pooled", Stage(sampler="shuffled", objective="erm", number=1)
        start = run.variables(pooled, run.stage(pooled, stage, name="the pooled model"))
    models = []
    for g, member in enumerate(group_models.by_group(partition)):
        stage = Stage(
            train=train[g],
            validation=validation[g],
            sampler="shuffled",
            objective="erm",
            start=start,
            number=2 + g,  # 0 is the last stage, 1 the pooled model
        )
        made = run.stage(member.directory, stage, name=f"the model of {member.name}")
        models.append(run.variables(member.directory, made))
    return models


def distilled(run: Run) -> None:
    """FairDi: the models of `group_specific` teach one student, each on its own group (`steps.distillation`).

    The temperature of the probabilities, `mitigation.temperature`, is 1 unless the config says otherwise.
    """
    teachers = jax.tree.map(lambda *leaves: jnp.stack(leaves), *group_specific(run))
    run.stage("", Stage(teachers=teachers), name="the student")


def jtt(run: Run) -> None:
    """Just train twice (Liu et al., ICML 2021): what a short first run gets worst counts more in the second.

    There are no misclassified examples in segmentation, so the share `mitigation.share` of the training cases with the
    highest loss is taken. Weights are divided by their mean, so that the learning rate keeps its meaning. No group
    label is used.
    """
    config, cohort = run.config, run.cohort
    path = run.workdir / UPWEIGHTED
    train = cohort.rows("train")
    if path.exists():  # decided once: another number of devices could round another way
        table = typed_tables.read_run_csv(
            path, ("case_id",), (), "delete it, and the first run decides again"
        )
    else:
        first = f"{STAGES}/first"
        made = run.stage(
            first,
            Stage(sampler="shuffled", objective="erm", steps=config.mitigation.extra_steps),
            name="the first run",
        )
        checkpoints = Checkpoints(run.workdir / first / "checkpoints")
        variables = checkpoints.variables(made.steps, made.state)
        checkpoints.close()
        losses = scoring.over_cases(
            made.eval_step,
            variables,
            run.cases,
            train,
            group=made.partition.index,
            batch_size=config.train.batch_size,
            mesh=made.mesh,
        )["loss"]
        worst = train[np.argsort(-losses, kind="stable")[: round(config.mitigation.share * len(train))]]
        table = pd.DataFrame({"case_id": cohort.cases["case_id"].iloc[np.sort(worst)]})
        if distributed.is_primary():
            atomic.write_text(path, table.map(spreadsheet_cell).to_csv(index=False))
        # Every host goes on with the table it made: a shared disk may show the others the file only later.
        distributed.barrier(UPWEIGHTED)
    ids = cohort.cases["case_id"]
    chosen = (ids.isin(table["case_id"]) | ids.map(spreadsheet_cell).isin(table["case_id"])).to_numpy()
    weight = np.where(chosen, config.mitigation.upweight, 1.0)
    run.stage("", Stage(weight=weight / weight[train].mean()), name="the second run")


def last_layer(run: Run) -> None:
    """Deep feature reweighting (Kirichenko et al., ICLR 2023): the last layer alone, again, on balanced new patients.

    The share `mitigation.share` of each group's training patients is held out of the first run; from its best
    checkpoint the last layer is then trained on them, each group with equal share, and nothing else moves.

    The paper instead fits a logistic regression with an L1 penalty to standardized features, and averages the layers of
    several balanced subsets, redrawn at random. Here the run's own loss and optimizer train one layer, for
    `mitigation.extra_steps`, without a penalty.
    """
    config, cohort = run.config, run.cohort
    train, held_out = hold_out(config, cohort)
    first = f"{STAGES}/first"
    variables = run.variables(first, run.stage(first, Stage(train=train), name="the first run"))
    run.stage(
        "",
        Stage(
            train=held_out,
            sampler="equal_share",
            objective="erm",
            steps=config.mitigation.extra_steps,
            start=variables,
            only="head",
        ),
        name="the last layer",
    )


def by_group(rows: np.ndarray, partition: Partition) -> list[np.ndarray]:
    """The rows of each group; those of unknown group are in none."""
    return [rows[partition.index[rows] == g] for g in range(len(partition.names))]


def hold_out(config: ConfigDict, cohort: Cohort) -> tuple[np.ndarray, np.ndarray]:
    """The training rows in two, by patient: those to train on, and those to train the last layer on.

    Of each group's patients a random `mitigation.share` is held out, rounded up so that no group is without.
    """
    partition = setup.mitigation_groups(cohort, config.mitigation.groups)
    rows, rng = cohort.rows("train"), np.random.default_rng(config.seed)
    patient = cohort.cases["patient_id"].to_numpy()
    people = [np.unique(patient[members]) for members in by_group(rows, partition)]
    share = config.mitigation.share
    chosen = [rng.choice(of_group, math.ceil(share * len(of_group)), replace=False) for of_group in people]
    out = np.isin(patient[rows], np.concatenate(chosen))
    return rows[~out], rows[out]


SCHEDULES: dict[str, Callable[[Run], Any]] = {
    "single": single,
    "group_specific": group_specific,
    "distilled": distilled,
    "jtt": jtt,
    "last_layer": last_layer,
}


def train(config: ConfigDict, cohort: Cohort, cases: Arrays, workdir: Path) -> None:
    """Trains whatever the config's schedule consists of, from where it was cut off if it was."""
    SCHEDULES[config.mitigation.schedule](Run(config, cohort, cases, workdir))


def check(config: ConfigDict, cohort: Cohort) -> None:
    """Refuses stages that have too few cases, before the first of them starts.

    Raises:
        InputError: naming the group or the share.
    """
    mitigation, batch_size = config.mitigation, config.train.batch_size
    if mitigation.schedule in ("group_specific", "distilled"):
        partition = setup.mitigation_groups(cohort, mitigation.groups)
        train, validation = (by_group(cohort.rows(split), partition) for split in ("train", "validation"))
        for g, name in enumerate(partition.names):
            if len(train[g]) < batch_size or not len(validation[g]):
                raise InputError(
                    f"config.mitigation.schedule={mitigation.schedule!r}: {name} has {len(train[g])} training and "
                    f"{len(validation[g])} validation cases, and a model of its own needs at least a batch "
                    f"({batch_size}) and one; take wider groups or smaller batches"
                )
    if mitigation.schedule == "jtt" and not round(mitigation.share * len(cohort.rows("train"))):
        raise InputError(
            f"config.mitigation.share={mitigation.share}: of {len(cohort.rows('train'))} training cases, jtt would "
            "weigh none up; give a larger share"
        )
    if mitigation.schedule == "last_layer":
        parts = hold_out(config, cohort)
        if min(map(len, parts)) < batch_size:
            raise InputError(
                f"config.mitigation.share={mitigation.share}: last_layer would train on {len(parts[0])} cases and "
                f"hold out {len(parts[1])}, and both need at least a batch ({batch_size})"
            )
