"""Training that has diverged: at which step, on which cases."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from kneefair_jax.training.experiment import Experiment


class NonFiniteLossError(RuntimeError):
    """Training has diverged: the loss or a parameter is not a finite number."""


def check(
    metrics: Sequence[Mapping[str, Any]],
    norm: float,
    step: int,
    experiment: Experiment,
    case_ids: np.ndarray,
    batch_size: int,
    committed: Callable[[], int | None],
) -> None:
    """Looks at steps that were made.

    Args:
        metrics: of the last steps, one entry a step, on the host.
        norm: of the parameters after them: a loss is of the parameters before the update.
        step: the last of them.
        experiment: whose `order` says which cases a step saw.
        case_ids: of the rows of the cohort table.
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
    rows = [experiment.order[k] for k in range((bad - 1) * batch_size, bad * batch_size)]
    good = committed()
    raise NonFiniteLossError(
        f"training diverged at step {bad} (loss {loss}) on the cases {', '.join(map(str, case_ids[rows]))}; "
        + (f"the last good checkpoint is step {good}" if good else "there is no checkpoint yet")
        + ". Lower optimizer.learning_rate or optimizer.clip_norm, with another --workdir."
    )
