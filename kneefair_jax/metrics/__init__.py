"""Scores per case and structure; nothing is averaged before the per-case table.

Overlap and calibration are counted on the device, distances are taken on the host.
"""

from kneefair_jax.metrics.calibration import ece, reliability
from kneefair_jax.metrics.layers import by_layer
from kneefair_jax.metrics.masks import mask_scores
from kneefair_jax.metrics.overlap import Overlap, Structures, dice, iou, overlap
from kneefair_jax.metrics.size import boundary_errors
from kneefair_jax.metrics.surface import surface_distances

__all__ = [
    "Overlap",
    "Structures",
    "boundary_errors",
    "by_layer",
    "dice",
    "ece",
    "iou",
    "mask_scores",
    "overlap",
    "reliability",
    "surface_distances",
]
