"""The training loop: read it from top to bottom."""

import contextlib
import math
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
import optax
from ml_collections import ConfigDict

from kneefair_jax import anatomy
from kneefair_jax.data import case_arrays, pipeline
from kneefair_jax.data.case_arrays import Arrays
from kneefair_jax.data.cohort_loader import Cohort
from kneefair_jax.groups import Partition
from kneefair_jax.runtime import distributed, preemption
from kneefair_jax.training import checkpoint, scoring, selection
from kneefair_jax.training.checkpoint import Checkpoints
from kneefair_jax.training.compilation import Compilations
from kneefair_jax.training.metric_writer import MetricWriter, Progress, Trace
from kneefair_jax.training.setup import Experiment

# Compiled once: leaf by leaf it takes longer than a step.
_norm = jax.jit(optax.tree.norm)


class NonFiniteLossError(RuntimeError):
    """Training has diverged: the loss or a parameter is not a finite number."""


def train(config: ConfigDict, experiment: Experiment, cohort: Cohort, cases: Arrays, workdir: Path) -> None:
    """Trains to `experiment.steps`, from the newest checkpoint in `workdir` if there is one.

    Every evaluation is a checkpoint. What happens at a step is a function of (config, data, step), so a run that was
    killed and started again ends in the same state as one that was not.

    Raises:
        NonFiniteLossError: the loss or a parameter is not finite; the last good checkpoint is kept.
        Preempted: the machine is wanted back; the step at hand is saved.
    """
    steps, batch_size = experiment.steps, config.train.batch_size
    partition, mesh = experiment.partition, experiment.mesh
    ids = None if cohort.source.online else cohort.cases["case_id"].to_numpy()

    with contextlib.ExitStack() as stack:
        stack.enter_context(preemption.defer_preemption())
        checkpoint.set_damaged_aside(workdir / "checkpoints")
        checkpoints = stack.enter_context(Checkpoints(workdir / "checkpoints"))
        # Restore.
        pending: checkpoint.Pending = []
        state, seconds_before = experiment.state, 0.0
        if (latest := checkpoints.latest()) is not None:
            state, seconds_before, pending = checkpoints.restore(latest, state)
            print(f"continuing from step {latest}", flush=True)
        first = latest or 0
        writer = None
        if distributed.is_primary():
            writer = stack.enter_context(contextlib.closing(MetricWriter(workdir, first)))
        trace = stack.enter_context(contextlib.closing(Trace(workdir / "profile", config.train.profile)))
        compilations = stack.enter_context(contextlib.closing(Compilations()))

        # Validation, the same rows each time.
        rows = experiment.validation
        validation = Partition(partition.attributes, partition.names, partition.index[rows])

        def validate() -> dict[str, Any]:
            scores = scoring.over_cases(
                experiment.eval_step,
                state.variables,
                cases,
                rows,
                group=partition.index,
                batch_size=batch_size,
                mesh=mesh,
            )
            table = scoring.group_table(
                scores["dice"],
                cohort.cases.iloc[rows],
                validation,
                anatomy.scored_structures(cohort.structures),
            )
            print(table.rename_axis(columns="validation").to_string(float_format="{:.4f}".format), flush=True)
            means = {name: float(value) for name, value in table["dice"].items() if not math.isnan(value)}
            return {"overall": means.pop("all", 0.0), "groups": means}

        # Train.
        progress = Progress(steps, batch_size)
        started = time.perf_counter()
        batches = pipeline.training_batches(
            case_arrays.training_inputs(cases, cohort.source, cohort.cases),
            experiment.order,
            partition.index,
            weight=experiment.weight,
            batch_size=batch_size,
            start=first,
            host=jax.process_index(),
            hosts=jax.process_count(),
        )
        for step, batch in zip(range(first + 1, steps + 1), batches, strict=False):
            preemption.check()
            trace.before(step)
            state, metrics = experiment.train_step(state, experiment.place(batch))
            trace.after(step, metrics)
            pending.append(metrics)
            evaluate = step % config.train.eval_every == 0 or step == steps
            log = evaluate or step % config.train.log_every == 0
            preempted = preemption.is_preempted()
            if log or preempted:
                # The only place where the host waits for the device.
                pending = jax.device_get(pending)
                check_finite(
                    pending,
                    float(_norm(state.params)),
                    step,
                    experiment,
                    ids,
                    batch_size,
                    checkpoints.committed,
                )
            if log:
                record = _summary(step, pending, partition.names)
                pending = []
                if writer:
                    writer.write(record)
                print(progress.line(step, record["loss"]), flush=True)
            if evaluate:
                result = validate()
                shown = {"overall": result["overall"], "worst_group": selection.worst(result)}
                if writer:
                    writer.write({"step": step, "validation": shown})
                checkpoints.save(state, result, seconds_before + time.perf_counter() - started)
                progress.skip()
                compilations.tell(step)
            elif preempted:
                checkpoints.save(state, None, seconds_before + time.perf_counter() - started, pending)
            if preempted:
                raise preemption.Preempted


def _summary(step: int, metrics: list[dict[str, Any]], names: tuple[str, ...]) -> dict[str, Any]:
    """Means since the last summary: sums over sums, so that no average is of averages."""

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


def check_finite(
    metrics: Sequence[Mapping[str, Any]],
    norm: float,
    step: int,
    experiment: Experiment,
    case_ids: np.ndarray | None,
    batch_size: int,
    committed: Callable[[], int | None],
) -> None:
    """Looks at steps that were made.

    Args:
        metrics: of the last steps, one entry a step, on the host.
        norm: of the parameters after them: a loss is of the parameters before the update.
        step: the last of them.
        experiment: whose `order` says which cases a step saw.
        case_ids: of the rows of the cohort table; None where training cases are drawn online and have none.
        batch_size: of the global batch.
        committed: waits for what is being written -> the step of the last checkpoint, if there is one.

    Raises:
        NonFiniteLossError: with the first step whose loss or gradient is not finite, and the cases of its batch.
    """
    finite = [math.isfinite(float(entry["loss_sum"] + entry["gradient_norm"])) for entry in metrics]
    if all(finite) and math.isfinite(norm):
        return
    # Where all of them are finite, the last update went too far.
    index = finite.index(False) if False in finite else len(finite) - 1
    bad = step - len(metrics) + 1 + index
    loss = float(metrics[index]["loss_sum"] / metrics[index]["count"])
    which = ""
    if case_ids is not None:
        rows = [experiment.order[k] for k in range((bad - 1) * batch_size, bad * batch_size)]
        which = f" on the cases {', '.join(map(str, case_ids[rows]))}"
    good = committed()
    raise NonFiniteLossError(
        f"training diverged at step {bad} (loss {loss}){which}; "
        + (f"the last good checkpoint is step {good}" if good else "there is no checkpoint yet")
        + ". Lower optimizer.learning_rate or optimizer.clip_norm, with another --workdir."
    )
