"""What a report says of the size of a pixel."""

from collections.abc import Iterable

import numpy as np


def one_spacing(spacings: Iterable[np.ndarray]) -> list[float] | None:
    """Mm per pixel down and across, to 0.1 micrometre, where all cases share it and know it; else None.

    >>> one_spacing([np.array([0.3, 0.2]), np.array([0.3, 0.2])])
    [0.3, 0.2]
    """
    different = {tuple(np.round(spacing.astype(float), 4).tolist()) for spacing in spacings}
    spacing: list[float] = list(different.pop())
    return spacing if not different and np.isfinite(spacing).all() else None
