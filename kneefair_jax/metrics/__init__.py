"""Scores per case and structure, on the device; nothing is averaged before the per-case table."""

from kneefair_jax.metrics.overlap import Overlap as Overlap
from kneefair_jax.metrics.overlap import dice as dice
from kneefair_jax.metrics.overlap import iou as iou
from kneefair_jax.metrics.overlap import overlap as overlap
