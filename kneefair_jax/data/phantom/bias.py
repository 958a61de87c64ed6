"""The switches: each plants one difference of known strength in one group of phantoms.

A switch is an experiment, never a claim about people. What each one moves, and what it leaves alone, is a table in
`tests/data/phantom/test_phantom_switches.py`.
"""

from typing import NamedTuple

import jax


class Bias(NamedTuple):
    """How strongly each switch acts on a case; f32 in [0, 1] each, 0 meaning not at all.

    The eighth switch, `representation`, acts on the cohort and not on a case; see `cohort`.
    """

    morphology: jax.Array | float = 0.0  # other proportions of the bones, about `population.BIASED`
    contrast: jax.Array | float = 0.0  # at 1, 55 % less mineral
    noise: jax.Array | float = 0.0  # at 1, a 25th of the photons: five times the noise
    soft_tissue: jax.Array | float = 0.0  # at 1, a limb 45 % wider, with 2.5 times the scatter
    osteophytes: jax.Array | float = 0.0  # at 1, every knee has Kellgren-Lawrence grade 3 or 4
    annotation: jax.Array | float = 0.0  # at 1, contours drawn `ANNOTATION_MM` too far out
    marker: jax.Array | float = 0.0  # probability of a sign in the film's upper corner


NO_BIAS = Bias()
CASE_SWITCHES = Bias._fields
SWITCHES = ("representation", *CASE_SWITCHES)

ANNOTATION_MM = 1.5
LIMB_GAIN = 0.45
SCATTER_GAIN = 1.5  # scatter grows faster than thickness
MINERAL_LOSS = 0.55
NOISE_GAIN = 4.0
