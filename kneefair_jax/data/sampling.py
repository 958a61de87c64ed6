"""Which case comes next. A sampler is a function of the training rows and a seed: nothing in it has a state."""

from collections.abc import Callable

import grain
import numpy as np

Sampler = Callable[[np.ndarray, int], grain.MapDataset]


def shuffled(rows: np.ndarray, seed: int) -> grain.MapDataset:
    """Every row once an epoch, in an order of its own each epoch, for ever.

    Args:
        rows: i[N], rows of the cohort table to train on.
        seed: of the order.

    Returns:
        An endless dataset of rows whose k-th element is a function of (rows, seed, k).
    """
    return grain.MapDataset.source(rows).seed(seed).shuffle().repeat()


SAMPLERS: dict[str, Sampler] = {"shuffled": shuffled}
