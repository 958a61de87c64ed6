"""`--dry-run`: log cohort, splits, groups and steps, and write nothing; with `--time`, an estimate of the time too."""

import logging
import time
from collections.abc import Callable
from pathlib import Path

import jax
import numpy as np
from ml_collections import ConfigDict

from kneefair_jax import cohort as cohorts
from kneefair_jax.data import pipeline
from kneefair_jax.data.cohort_loader import Cohort
from kneefair_jax.errors import InputError
from kneefair_jax.preflight import group_sizes, hardware
from kneefair_jax.report.text.formatting import amount
from kneefair_jax.runs import experiment, study
from kneefair_jax.runtime.progress import duration
from kneefair_jax.training import checkpoint, scoring, setup, sharding
from kneefair_jax.training.setup import Experiment

logger = logging.getLogger(__name__)
_ROUNDS = 5  # timed batches, after the compilation


class BlankCases:
    """Black images without structures, in place of cases that nobody has read yet (`data.pipeline.Arrays`)."""

    def __init__(self, cohort: Cohort):
        height, width, channels = cohort.grid
        self._size = len(cohort.cases)
        self._case: dict[str, np.ndarray] = {
            "image": np.zeros((height, width, channels), np.uint8),
            "label": np.zeros((height, width), np.uint8),
            "spacing": np.ones(2, np.float32),
        }

    def __len__(self) -> int:
        return self._size

    def __getitem__(self, row: int) -> dict[str, np.ndarray]:
        return self._case


def show(mode: str, config: ConfigDict, workdir: Path, shard: str = "0/1", *, timed: bool = False) -> None:
    """Log what a mode would do, after the checks that it would begin with.

    Args:
        mode: `train`, `evaluate` or `study`.
        config: of the run.
        workdir: its folder; it need not exist.
        shard: of a study.
        timed: whether to compile the network and to time it, which takes longer than all the rest.

    Raises:
        InputError: the mode would refuse the config or a table, or has no dry run.
    """
    if mode == "check":
        raise InputError("--dry-run: a check trains nothing; drop --dry-run, or give --mode=train")
    if mode == "study":
        configs, remaining = study.plan(config, workdir, shard)
        run_config = next(iter(configs.values()))
        cohort, _ = experiment.validate_run(
            run_config, workdir / next(iter(configs)).directory, training=True
        )
        _log_cohort(run_config, cohort)
        logger.info("%d steps a run, %d runs to train", run_config.train.steps, len(remaining))
        work = f"{len(remaining)} runs like the first one"
        _log_time(lambda: _training_seconds(run_config, cohort), len(remaining), work, timed)
        return
    run_config = config
    if config.data.folds:
        run_config = config.copy_and_resolve_references()
        run_config.data.fold = max(config.data.fold, 0)
        workdir = workdir / f"fold_{run_config.data.fold}"
    cohort, external = experiment.validate_run(run_config, workdir, training=mode == "train")
    _log_cohort(run_config, cohort)
    if external is not None:
        logger.info("external cohort: %d cases", len(external.cases))
    folds = config.data.folds if config.data.folds and config.data.fold == -1 else 1
    if mode == "train":
        schedule = config.mitigation.schedule.name
        stages = "" if schedule == "single" else f" in the last stage of the schedule {schedule!r}"
        logger.info("%d steps of %d cases%s", config.train.steps, config.train.batch_size, stages)
        _log_time(lambda: _training_seconds(run_config, cohort), folds, "these steps", timed)
    else:
        cases = sum(len(cohort.rows(split)) for split in ("validation", "test"))
        cases += 0 if external is None else len(external.cases)
        _log_time(lambda: _scoring_seconds(run_config, cohort, workdir, cases), folds, "prediction", timed)


def _log_cohort(config: ConfigDict, cohort: Cohort) -> None:
    for split in ("train", "validation", "test"):
        cases = cohort.cases.iloc[cohort.rows(split)]
        patients = amount(cases["patient_id"].nunique(), "patient")
        logger.info("%s: %s of %s", split, amount(len(cases), "case"), patients)
    logger.info("%s", cohorts.text(cohorts.table(cohort.cases, cohort.attributes)))
    for note in [*cohort.notes(), *setup.single_group_notes(config, cohort)]:
        logger.warning("note: %s", note)
    for line in group_sizes.lines(
        group_sizes.small_groups(cohort, config.data, config.report.min_group_patients)
    ):
        logger.warning("%s", line)


def _log_time(measure: Callable[[], float | None], runs: int, work: str, timed: bool) -> None:
    if not timed:
        logger.info("time: not estimated; --time compiles the network and times a few steps")
    elif (seconds := measure()) is None:
        logger.info("time: not estimated, since the training step draws the phantoms")
    else:
        logger.info(
            "time on this machine: about %s for %s, besides reading cases, evaluations and statistics",
            duration(seconds * runs),
            work,
        )


def _training_seconds(config: ConfigDict, cohort: Cohort) -> float | None:
    """Return the seconds of a run's steps, by a few steps on blank cases; None for phantoms drawn in the step."""
    if config.data.get("source") == "phantom" and config.data.phantom.get("online", False):
        return None
    run = setup.build(config, cohort)
    measurements = hardware.measure(config, run, BlankCases(cohort), Path.cwd())
    return float(measurements.compile_seconds + run.steps * measurements.step_seconds)


def _scoring_seconds(config: ConfigDict, cohort: Cohort, workdir: Path, cases: int) -> float:
    """Return the seconds of predicting all cases by the checkpoint of each selection rule, by a few blank batches."""
    run = setup.build(config, cohort)
    records = scoring.records(workdir, scoring.of_run(config, run.partition))
    checkpoints = {
        tuple(rule(record)["step"] for record in records) for rule in checkpoint.SELECTION_RULES.values()
    }
    batches = -(-cases // config.train.batch_size)
    seconds: float = _batch_seconds(config, run, cohort) * batches * len(checkpoints)
    return seconds


def _batch_seconds(config: ConfigDict, run: Experiment, cohort: Cohort) -> float:
    rows = np.zeros(config.train.batch_size, int)
    batch = next(
        pipeline.evaluation_batches(
            BlankCases(cohort), rows, run.partition.index, batch_size=config.train.batch_size
        )
    )
    placed = sharding.global_batch(batch, sharding.data_mesh())
    jax.block_until_ready(run.eval_step(run.state.variables, placed))
    start = time.perf_counter()
    for _ in range(_ROUNDS):
        jax.block_until_ready(run.eval_step(run.state.variables, placed))
    return (time.perf_counter() - start) / _ROUNDS
