"""Trained networks as files: `NAME.safetensors` and, beside it, `NAME.json` that says what it is.

Those in this folder ship with the package and are loaded by name:

    model, variables, about = weights.load("phantom")
    logits = model.apply(variables, models.standardize(image))      # image u8[B, 128, 128, 1]
"""

from kneefair_jax.weights.network import FOLDER, NAMES, SUFFIX, Network, expected, load, save_network

__all__ = ["FOLDER", "NAMES", "SUFFIX", "Network", "expected", "load", "save_network"]
