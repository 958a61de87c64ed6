"""Networks small enough to compile at once; their weights are random."""

from pathlib import Path

import jax
import jax.numpy as jnp

from kneefair_jax import models, weights

NETWORK = {"name": "unet", "widths": [4, 8], "norm": "group"}


def write(path: Path, structures=("femur", "tibia", "patella"), group=None, seed=0, grid=(16, 16, 1)) -> Path:
    model = models.create(NETWORK, classes=len(structures) + 1)
    variables = model.init(jax.random.key(seed), jnp.zeros((1, *grid)))
    about = {"network": NETWORK, "structures": structures, "grid": grid, "group": group}
    weights.save_network(path, variables, about)
    return path
