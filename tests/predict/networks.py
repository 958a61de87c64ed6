"""Networks small enough to compile at once; their weights are random."""

from pathlib import Path

import jax
import jax.numpy as jnp

from kneefair_jax import models, weights

NETWORK = {"name": "unet", "widths": [4, 8], "norm": "group"}


def write(
    path: Path,
    structures=("femur", "tibia", "patella"),
    group=None,
    seed=0,
    grid=(16, 16, 1),
    sure=1.0,
    **description,
) -> Path:
    """Writes the two files of a network whose logits are those of random weights times `sure`."""
    model = models.create(NETWORK, classes=len(structures) + 1)
    variables = model.init(jax.random.key(seed), jnp.zeros((1, *grid)))
    variables["params"]["head"] = jax.tree.map(lambda leaf: sure * leaf, variables["params"]["head"])
    about = {"network": NETWORK, "structures": structures, "grid": grid, "group": group, **description}
    weights.save_network(path, variables, about)
    return path
