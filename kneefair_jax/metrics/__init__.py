"""Scores per case and structure; nothing is averaged before the per-case table.

Overlap and calibration are counted on the device, distances are taken on the host.
"""

from kneefair_jax.metrics.calibration import ece as ece
from kneefair_jax.metrics.calibration import reliability as reliability
from kneefair_jax.metrics.masks import mask_scores as mask_scores
from kneefair_jax.metrics.overlap import Overlap as Overlap
from kneefair_jax.metrics.overlap import dice as dice
from kneefair_jax.metrics.overlap import iou as iou
from kneefair_jax.metrics.overlap import overlap as overlap
from kneefair_jax.metrics.size import boundary_errors as boundary_errors
from kneefair_jax.metrics.surface import surface_distances as surface_distances
