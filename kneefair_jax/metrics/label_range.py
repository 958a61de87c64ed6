"""The contract of label masks on the host: integers from 0, the background, to S."""

import numpy as np


def check_labels(structures: int, **masks: np.ndarray) -> None:
    """Refuse masks with a label that is no structure, which would count as another structure or as background.

    The device's `overlap` cannot see values while it is compiled: there, such a label belongs to no structure.

    Args:
        structures: S.
        masks: name in the message -> label mask of any shape.

    Raises:
        ValueError: a mask is not of integers (or booleans), or holds a label outside 0 to S.

    Example:
        >>> check_labels(2, truth=np.array([[0, 3]]))
        Traceback (most recent call last):
        ValueError: truth: label 3 is not from 0 to S = 2; relabel it, or set void pixels to 0
    """
    for name, mask in masks.items():
        if mask.dtype.kind not in "iub":
            raise ValueError(f"{name}: labels are {mask.dtype}; give integers from 0 to S = {structures}")
        if not mask.size:
            continue
        for label in (int(mask.max()), int(mask.min())):
            if not 0 <= label <= structures:
                raise ValueError(
                    f"{name}: label {label} is not from 0 to S = {structures}; relabel it, or set void pixels to 0"
                )
