"""Labels of a mask, as the file holds them: one integer per pixel, without color or lossy compression."""

from pathlib import Path
from typing import NoReturn

import numpy as np

from kneefair_jax.errors import InputError


def refuse_color(path: Path, what: str) -> NoReturn:
    """Raise the error of a mask in color.

    Args:
        path: the file.
        what: the color space, for the message.

    Raises:
        InputError: always.
    """
    raise InputError(f"{path}: a mask in color ({what}); export the labels 0, 1, 2, ... as one gray image")


def refuse_lossy(path: Path, codec: str) -> NoReturn:
    """Raise the error of a mask whose compression may have changed its labels.

    Args:
        path: the file.
        codec: name of the compression, for the message.

    Raises:
        InputError: always.
    """
    raise InputError(
        f"{path}: {codec} may be lossy and change labels along every contour; export the mask as PNG or with lossless "
        "compression"
    )


def checked(labels: np.ndarray, path: Path) -> np.ndarray:
    """Return u8 or i64 [H, W].

    Raises:
        InputError: not one label per pixel, or values that are not integers.
    """
    if labels.ndim == 3 and labels.shape[2] == 1:
        labels = labels[..., 0]
    if labels.ndim != 2 or not labels.size:
        raise InputError(
            f"{path}: a mask is one label per pixel, and this holds an array of shape {labels.shape}; "
            "export the labels 0, 1, 2, ... as one gray image"
        )
    if labels.dtype == np.uint8 or labels.dtype == bool:
        return labels.astype(np.uint8)
    if labels.dtype.kind not in "iuf" or not (np.isfinite(labels) & (labels == np.rint(labels))).all():
        raise InputError(
            f"{path}: holds values that are not integers; export the labels 0, 1, 2, ... without "
            "interpolation or scaling"
        )
    return labels.astype(np.int64)
