"""Random variation of a training batch, on the device and inside jit: geometry, grey values, what covers the picture.

Every draw is a function of (key, position in the global batch), so neither the number of devices nor a restart
changes it. What has strength 0 is left out of the program, not multiplied by 0.
"""

from kneefair_jax.data.augment.batch import augment
from kneefair_jax.data.augment.strength import Augmentation

__all__ = ["Augmentation", "augment"]
