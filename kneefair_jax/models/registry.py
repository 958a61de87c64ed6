"""Networks by name: what a config's `model` section describes."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from kneefair_jax.errors import InputError, choose
from kneefair_jax.models.resnet import RESNET18, RESNET34, ResNetUNet
from kneefair_jax.models.unet import UNet

MODELS: dict[str, Callable[..., nn.Module]] = {
    "unet": UNet,
    "resnet18_unet": partial(ResNetUNet, blocks=RESNET18),
    "resnet34_unet": partial(ResNetUNet, blocks=RESNET34),
}
# float64 needs JAX_ENABLE_X64, and is for comparing ways to run (`benchmarks/agreement.py`).
DTYPES = {"float32": jnp.float32, "bfloat16": jnp.bfloat16, "float64": jnp.float64}
FIELDS = ("widths", "convolutions", "norm", "dtype", "remat")
PRETRAINED = ("resnet18_unet", "resnet34_unet")  # those that `weights` are for


def create(
    config: Mapping[str, Any],
    classes: int,
    axis_name: str | None = None,
    parts: Mapping[str, Any] | None = None,
) -> nn.Module:
    """The network that `config` describes: `name`, a key of `MODELS`, and any of `FIELDS`.

    `weights`, a file, is checked here only to be for this network: `weights.imagenet.load` reads it into the variables.

    Args:
        config: for example `{"name": "unet", "widths": (16, 32, 64)}`.
        classes: output channels, background included.
        axis_name: mapped axis over which batch statistics are taken, inside `jax.pmap` or `jax.shard_map`.
        parts: `bottleneck` and `critic`, from `heads.HEADS`.

    Raises:
        InputError: there is no network, no type or no field of that name, or there are no weights for the network.
    """
    fields = dict(config)
    name = fields.pop("name")
    network = choose(MODELS, name, "model.name")
    weights = fields.pop("weights", "")
    if weights and name not in PRETRAINED:
        raise InputError(
            f"config.model.weights={weights!r}: {name} starts at random; give '', or one of {', '.join(PRETRAINED)} "
            "as model.name"
        )
    if unknown := sorted(fields.keys() - set(FIELDS)):
        raise InputError(f"config.model.{unknown[0]}: there is no such field; there are {', '.join(FIELDS)}")
    if "widths" in fields:
        fields["widths"] = tuple(fields["widths"])
    if "dtype" in fields:
        if fields["dtype"] == "float64" and not jax.config.jax_enable_x64:
            raise InputError(
                "config.model.dtype='float64': set JAX_ENABLE_X64=1, without which JAX has no float64"
            )
        fields["dtype"] = choose(DTYPES, fields["dtype"], "model.dtype")
    return network(classes=classes, axis_name=axis_name, **fields, **(parts or {}))


def count(params: Any) -> int:
    """The number of scalars in a tree of arrays."""
    return sum(leaf.size for leaf in jax.tree.leaves(params))
