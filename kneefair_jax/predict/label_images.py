"""Tell the masks in a folder of radiographs from the radiographs by their pixels and names."""

from pathlib import PurePath

import numpy as np

from kneefair_jax.data import mask_names

MOST_LABELS = 32  # distinct values
# The share of pixels that equal their four neighbors. Of phantoms of 64 to 1024 pixels a side, films of 16 gray values
# have at most 0.58 and of 8 gray values 0.75; their masks have at least 0.84.
MIN_CONSTANT = 0.8
_SAMPLE = 10_000  # pixels


def is_label_image(pixels: np.ndarray, name: str) -> bool:
    """Return whether an image has few values, and its regions or its name are those of a mask.

    An image of two values is a mask. One of a single value is a mask if its name says so, and else a blank film.

    Args:
        pixels: [H, W] or [H, W, C], as in the file.
        name: path of the file in the folder of films.
    """
    values = pixels.ravel()
    # Most radiographs end here, in a millisecond.
    if len(np.unique(values[:: max(1, values.size // _SAMPLE)])) > MOST_LABELS:
        return False
    count = len(np.unique(values))
    if count > MOST_LABELS:
        return False
    is_constant = count == 2 or (count > 2 and constant_share(pixels) >= MIN_CONSTANT)
    return is_constant or mask_names.names_mask(PurePath(name))


def constant_share(pixels: np.ndarray) -> float:
    """Return the share of inner pixels that equal all four neighbors; 0 for an image without inner pixels."""
    inner = pixels[1:-1, 1:-1]
    if not inner.size:
        return 0.0
    neighbors = (pixels[:-2, 1:-1], pixels[2:, 1:-1], pixels[1:-1, :-2], pixels[1:-1, 2:])
    is_equal = np.logical_and.reduce([inner == neighbor for neighbor in neighbors])
    return float(is_equal.mean())
