"""Probabilities on the working grid -> labels at the film's own size."""

import numpy as np
from PIL import Image


def labels_at(probabilities: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """The likeliest class of every pixel, probabilities being interpolated linearly.

    Contours are smooth so, where enlarged labels would have steps. One class is enlarged at a time: a film of 20
    million pixels times all classes would be 400 MB.

    Args:
        probabilities: f32[h, w, C].
        size: rows and columns, (H, W).

    Returns:
        u8[H, W]; the lower class wins a tie.
    """
    classes = probabilities.shape[2]
    height, width = size
    best = np.zeros(size, np.float32)
    labels = np.zeros(size, np.uint8)
    for value in range(classes):
        plane = np.ascontiguousarray(probabilities[..., value], np.float32)
        if plane.max() < 1 / classes:  # so it is the likeliest nowhere, between pixels neither
            continue
        fine = np.asarray(Image.fromarray(plane).resize((width, height), Image.Resampling.BILINEAR))
        better = fine > best
        np.maximum(best, fine, out=best)
        np.putmask(labels, better, value)
    return labels
