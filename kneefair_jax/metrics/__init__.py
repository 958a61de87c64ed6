"""Scores per case and structure; no score is averaged before the per-case table.

The device counts overlap and calibration; the host computes distances.
"""

from kneefair_jax.metrics.calibration import ece, reliability
from kneefair_jax.metrics.overlap import (
    Overlap,
    Structures,
    confusion_matrix,
    dice,
    iou,
    mask_scores,
    overlap,
    score_by_layer,
)
from kneefair_jax.metrics.surface import boundary_errors, surface_distances

__all__ = [
    "Overlap",
    "Structures",
    "boundary_errors",
    "confusion_matrix",
    "dice",
    "ece",
    "iou",
    "mask_scores",
    "overlap",
    "reliability",
    "score_by_layer",
    "surface_distances",
]
