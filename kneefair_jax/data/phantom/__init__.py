"""Phantom knees: parametric postero-anterior radiographs with exact masks and a bias of known strength."""

from kneefair_jax.data.phantom.case import NO_BIAS, Bias, draw_case
from kneefair_jax.data.phantom.cohort import source

__all__ = ["NO_BIAS", "Bias", "draw_case", "source"]
