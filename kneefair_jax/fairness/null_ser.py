"""What SER is when there is no gap: at least 1 by construction, so noise alone lifts it."""

import numpy as np

from kneefair_jax.fairness.simultaneous import Means


def percentile(errors: Means, sizes: np.ndarray, level: float = 0.95) -> float | None:
    """A percentile of SER when the groups are drawn, each at its own size and spread, about one common mean.

    The resamples of each group are moved to the mean over all patients, and widened by sqrt(n / (n - 1)), which a
    resample's spread lacks.

    Args:
        errors: of the G groups, of one score.
        sizes: i64[G], patients of each group, two or more.
        level: which percentile.

    Returns:
        The percentile; None where it is not finite, since errors reach 0.
    """
    common = errors.point @ (sizes / sizes.sum())
    drawn = common[:, None] + (errors.drawn - errors.point) * np.sqrt(sizes / (sizes - 1))
    smallest = drawn.min(-1)
    ratio = np.divide(
        drawn.max(-1), smallest, out=np.full_like(smallest, np.inf), where=smallest > 0
    )  # f64[draws, S]
    found = float(np.quantile(ratio.mean(1), level, method="higher"))
    return found if np.isfinite(found) else None
