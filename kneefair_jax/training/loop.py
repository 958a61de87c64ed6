"""The training loop: read it from top to bottom."""

import contextlib
import math
import time
from pathlib import Path
from typing import Any

import jax
import optax
from ml_collections import ConfigDict

from kneefair_jax.data import pipeline
from kneefair_jax.data.cohort_loader import Cohort
from kneefair_jax.data.store.cache import Arrays
from kneefair_jax.groups import Partition
from kneefair_jax.runtime import distributed, preemption
from kneefair_jax.training import checkpoint, divergence, scoring, selection
from kneefair_jax.training.checkpoint import Checkpoints
from kneefair_jax.training.compiled import Compilations
from kneefair_jax.training.experiment import Experiment
from kneefair_jax.training.hooks import MetricWriter, Progress
from kneefair_jax.training.profile import Trace

# Compiled once: leaf by leaf it takes longer than a step.
_norm = jax.jit(optax.tree.norm)


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
    ids = cohort.cases["case_id"].to_numpy()

    with contextlib.ExitStack() as stack:
        stack.enter_context(preemption.deferred())
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
        if distributed.is_first():
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
                scores["dice"], cohort.cases.iloc[rows], validation, cohort.structures
            )
            print(table.to_string(float_format="{:.4f}".format), flush=True)
            means = {name: float(value) for name, value in table["dice"].items() if not math.isnan(value)}
            return {"overall": means.pop("all", 0.0), "groups": means}

        # Train.
        progress = Progress(steps, batch_size)
        started = time.perf_counter()
        batches = pipeline.training_batches(
            cases,
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
            preempted = preemption.preempted()
            if log or preempted:
                # The only place where the host waits for the device.
                pending = jax.device_get(pending)
                divergence.check(
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
