"""Trained networks as files: `NAME.safetensors` and its description `NAME.json`.

The networks in this folder ship with the package and load by name:

    model, variables, about = weights.load("phantom")
    logits = model.apply(variables, models.standardize(image))      # image u8[B, 256, 256, 1]
"""

from kneefair_jax.weights.network import (
    CHANNELS,
    FITS,
    FOLDER,
    NAMES,
    SUFFIX,
    Network,
    NetworksByGroup,
    load,
    load_by_group,
    save_network,
    select_group,
    variable_shapes,
)

__all__ = [
    "CHANNELS",
    "FITS",
    "FOLDER",
    "NAMES",
    "SUFFIX",
    "Network",
    "NetworksByGroup",
    "load",
    "load_by_group",
    "save_network",
    "select_group",
    "variable_shapes",
]
