"""Phantom knees: parametric postero-anterior radiographs with exact masks and biases of known strength."""

from kneefair_jax.data.phantom.bias import NO_BIAS, SWITCHES, Bias
from kneefair_jax.data.phantom.case import Phantom, draw_case, draw_film
from kneefair_jax.data.phantom.cohort import source

__all__ = ["NO_BIAS", "SWITCHES", "Bias", "Phantom", "draw_case", "draw_film", "source"]
