"""The training loop: restore, step, log, evaluate."""

import contextlib
import itertools
import logging
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jax
import numpy as np
import optax
from ml_collections import ConfigDict

from kneefair_jax import anatomy
from kneefair_jax.data import pipeline
from kneefair_jax.data.cohort_loader import Cohort
from kneefair_jax.data.pipeline import Arrays
from kneefair_jax.groups import Partition, display_label
from kneefair_jax.runtime import distributed, preemption
from kneefair_jax.training import checkpoint, scoring
from kneefair_jax.training.checkpoint import Checkpoints
from kneefair_jax.training.metric_writer import MetricWriter, Progress, Trace
from kneefair_jax.training.setup import Experiment
from kneefair_jax.training.sharding import Compilations
from kneefair_jax.training.state import TrainState
from kneefair_jax.training.steps import Metrics

logger = logging.getLogger(__name__)

# Compiled once: leaf by leaf it takes longer than a step.
_norm = jax.jit(optax.tree.norm)


class NonFiniteLossError(RuntimeError):
    """Training has diverged: the loss or a parameter is not a finite number."""


def train(config: ConfigDict, experiment: Experiment, cohort: Cohort, cases: Arrays, workdir: Path) -> None:
    """Train to `experiment.steps`, from the newest checkpoint in `workdir` if there is one.

    Every evaluation writes a checkpoint. Each step is a function of (config, data, step), so a resumed run ends in the
    same state as an uninterrupted one.

    Raises:
        NonFiniteLossError: the loss or a parameter is not finite; the last good checkpoint stays.
        Preempted: a signal stopped the run; the current step is saved.
    """
    with contextlib.ExitStack() as stack:
        stack.enter_context(preemption.defer_preemption())
        checkpoint.set_damaged_aside(workdir / "checkpoints")
        checkpoints = stack.enter_context(Checkpoints(workdir / "checkpoints"))
        session, first = _restore(config, experiment, cohort, cases, checkpoints)
        if distributed.is_primary():
            session.writer = stack.enter_context(contextlib.closing(MetricWriter(workdir, first)))
        trace = stack.enter_context(contextlib.closing(Trace(workdir / "profile", config.train.profile)))
        compilations = stack.enter_context(contextlib.closing(Compilations()))
        batches = pipeline.training_batches(
            pipeline.training_inputs(cases, cohort.source, cohort.cases),
            experiment.order,
            experiment.partition.index,
            weight=experiment.weight,
            batch_size=config.train.batch_size,
            start=first,
            host=jax.process_index(),
            hosts=jax.process_count(),
        )
        for call in calls(first, experiment.steps, config.train.eval_every, config.train.steps_per_call):
            preemption.check()
            for step in call:
                trace.before_step(step)
            metrics = session.run_steps(list(itertools.islice(batches, len(call))))
            for step, step_metrics in zip(call, metrics, strict=True):
                trace.after_step(step, step_metrics)
            last = call[-1]
            evaluates = last % config.train.eval_every == 0 or last == experiment.steps
            logs = evaluates or any(step % config.train.log_every == 0 for step in call)
            preempted = preemption.is_preempted()
            if logs or preempted:
                session.check_finite(last)
            if logs:
                session.on_log(last)
            if evaluates:
                session.on_eval(last)
                compilations.report(last)
            elif preempted:
                session.save(None)
            if preempted:
                raise preemption.Preempted


def calls(first: int, last: int, eval_every: int, size: int) -> Iterator[range]:
    """Yield the steps after `first` up to `last` in calls of `size` steps, none of them across an evaluation.

    Calls end at multiples of `size` after an evaluation, at the next evaluation and at the last step, so that a run
    resumed at the end of a call has the calls of an uninterrupted one.
    """
    while first < last:
        evaluation = first // eval_every * eval_every
        end = evaluation + ((first - evaluation) // size + 1) * size
        end = min(end, evaluation + eval_every, last)
        yield range(first + 1, end + 1)
        first = end


@dataclass
class _Session:
    """The state of a training and its outputs.

    Attributes:
        config: of the run.
        experiment: its functions and its order of cases.
        cohort: with the rows to validate on.
        cases: the prepared cases.
        checkpoints: of this training.
        progress: of this process.
        state: after the last step.
        pending: metrics of the steps since the last line of `metrics.jsonl`.
        seconds_before: training time before this start.
        start: time of this start, by `time.perf_counter`.
        writer: of the first host.
    """

    config: ConfigDict
    experiment: Experiment
    cohort: Cohort
    cases: Arrays
    checkpoints: Checkpoints
    progress: Progress
    state: TrainState
    pending: checkpoint.Pending
    seconds_before: float
    start: float = field(default_factory=time.perf_counter)
    writer: MetricWriter | None = None

    def run_steps(self, batches: Sequence[Mapping[str, np.ndarray]]) -> tuple[Metrics, ...]:
        """Make an update with each batch and return the metrics of each, still on the device.

        `train.steps_per_call` of them are one program; fewer run one by one, so that no further program is compiled.
        """
        placed = tuple(self.experiment.place(dict(batch)) for batch in batches)
        metrics: tuple[Metrics, ...]
        if len(placed) == self.config.train.steps_per_call > 1:
            self.state, metrics = self.experiment.train_steps(self.state, placed)
        else:
            metrics = ()
            for batch in placed:
                self.state, step_metrics = self.experiment.train_step(self.state, batch)
                metrics += (step_metrics,)
        self.pending.extend(metrics)
        return metrics

    def check_finite(self, step: int) -> None:
        """Fetch the pending metrics, the only place where the host waits for the device, and refuse divergence.

        Args:
            step: the last one.

        Raises:
            NonFiniteLossError: with the first step whose loss or gradient is not finite, and the cases of its batch.
        """
        self.pending = jax.device_get(self.pending)
        finite = [math.isfinite(float(entry["loss_sum"] + entry["gradient_norm"])) for entry in self.pending]
        # A loss is of the parameters before the update.
        if all(finite) and math.isfinite(float(_norm(self.state.params))):
            return
        # Where all of them are finite, the last update went too far.
        index = finite.index(False) if False in finite else len(finite) - 1
        bad_step = step - len(finite) + 1 + index
        loss = float(self.pending[index]["loss_sum"] / self.pending[index]["count"])
        cases = ""
        if not self.cohort.source.online:  # cases that are drawn online have no identifiers
            size = self.config.train.batch_size
            rows = [self.experiment.order[k] for k in range((bad_step - 1) * size, bad_step * size)]
            cases = f" on the cases {', '.join(map(str, self.cohort.cases['case_id'].iloc[rows]))}"
        good_step = self.checkpoints.committed()
        raise NonFiniteLossError(
            f"training diverged at step {bad_step} (loss {loss}){cases}; "
            + (f"the last good checkpoint is step {good_step}" if good_step else "there is no checkpoint yet")
            + ". Lower optimizer.learning_rate or optimizer.clip_norm, with another --workdir."
        )

    def on_log(self, step: int) -> None:
        """Write and log the means of the pending metrics."""
        record = _summary(step, self.pending, self.experiment.partition.names)
        self.pending = []
        if self.writer:
            self.writer.write(record)
        logger.info("%s", self.progress.line(step, record["loss"]))

    def on_eval(self, step: int) -> None:
        """Validate, and save the state with its scores."""
        scores = self._validate()
        record = {"overall": scores["overall"], "worst_group": checkpoint.worst(scores)}
        if self.writer:
            self.writer.write({"step": step, "validation": record})
        self.save(scores)
        self.progress.skip()

    def save(self, scores: dict[str, Any] | None) -> None:
        """Save the state with its validation scores, or with the pending metrics where it has none."""
        seconds = self.seconds_before + time.perf_counter() - self.start
        self.checkpoints.save(self.state, scores, seconds, self.pending)

    def _validate(self) -> dict[str, Any]:
        """Return the mean validation Dice, `overall` and by group, and log the table."""
        partition, rows = self.experiment.partition, self.experiment.validation
        scores = scoring.predict_cases(
            self.experiment.eval_step,
            self.state.variables,
            self.cases,
            rows,
            group=partition.index,
            batch_size=self.config.train.batch_size,
        )
        table = scoring.group_table(
            scores["dice"],
            self.cohort.cases.iloc[rows],
            Partition(partition.attributes, partition.names, partition.index[rows]),
            anatomy.scored_structures(self.cohort.structures),
        )
        scores_table = table.rename(index=display_label).rename_axis(columns="validation")
        text = scores_table.to_string(float_format="{:.4f}".format)
        logger.info("%s", text)
        means = {name: float(value) for name, value in table["dice"].items() if not math.isnan(value)}
        return {"overall": means.pop("all", 0.0), "groups": means}


def _restore(
    config: ConfigDict, experiment: Experiment, cohort: Cohort, cases: Arrays, checkpoints: Checkpoints
) -> tuple[_Session, int]:
    """Return the training from its newest checkpoint, or from the first state, and the step that it starts after."""
    state, seconds = experiment.state, 0.0
    pending: checkpoint.Pending = []
    if (step := checkpoints.latest()) is not None:
        state, seconds, pending = checkpoints.restore(step, state)
        logger.info("continuing from step %d", step)
    progress = Progress(experiment.steps, config.train.batch_size)
    session = _Session(config, experiment, cohort, cases, checkpoints, progress, state, pending, seconds)
    return session, step or 0


def _summary(step: int, metrics: list[dict[str, Any]], names: tuple[str, ...]) -> dict[str, Any]:
    """Return the means since the last summary, as sums over sums, so that no mean is of means."""

    def total(key: str) -> Any:
        return sum(entry[key] for entry in metrics)

    group_sum, group_count = total("group_loss_sum"), total("group_count")
    return {
        "step": step,
        "loss": float(total("loss_sum") / total("count")),
        "objective": float(total("loss") / len(metrics)),
        **({"auxiliary": float(auxiliary / len(metrics))} if (auxiliary := total("auxiliary")) else {}),
        "gradient_norm": float(metrics[-1]["gradient_norm"]),
        "group_loss": {
            name: float(group_sum[g] / group_count[g]) for g, name in enumerate(names) if group_count[g]
        },
    }
