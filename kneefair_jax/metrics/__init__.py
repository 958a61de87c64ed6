"""Scores per case and structure; nothing is averaged before the per-case table.

Overlap is counted on the device, distances between surfaces are taken on the host.
"""

from kneefair_jax.metrics.overlap import Overlap as Overlap
from kneefair_jax.metrics.overlap import dice as dice
from kneefair_jax.metrics.overlap import iou as iou
from kneefair_jax.metrics.overlap import overlap as overlap
from kneefair_jax.metrics.size import boundary_errors as boundary_errors
from kneefair_jax.metrics.surface import surface_distances as surface_distances
