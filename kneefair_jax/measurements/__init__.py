"""Measurements of a knee from masks or probabilities, in millimeters and degrees.

    from kneefair_jax import measurements

    bones = measurements.whole_bones(mask, structures)         # mask: labels [H, W], or probabilities [H, W, C]
    result = measurements.measure(bones, spacing=(0.2, 0.2))   # mm per pixel down and across
    result["jsw_min_medial"].value, result["jsw_min_medial"].reason

A measurement that cannot be taken has no value but a reason. `MEASUREMENTS` defines each one.
"""

from kneefair_jax.measurements.bones import BONES, knees_of, trace, whole_bones
from kneefair_jax.measurements.definitions import MEASUREMENTS, Definition
from kneefair_jax.measurements.knee import Knee
from kneefair_jax.measurements.measure import Measurement, measure, measure_knee

__all__ = [
    "BONES",
    "MEASUREMENTS",
    "Definition",
    "Knee",
    "Measurement",
    "knees_of",
    "measure",
    "measure_knee",
    "trace",
    "whole_bones",
]
