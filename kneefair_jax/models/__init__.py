"""Networks as pure functions: `model.init(key, image)` -> variables, `model.apply(variables, image)` -> logits."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from kneefair_jax.errors import choose
from kneefair_jax.models.heads import HEADS as HEADS
from kneefair_jax.models.standardise import standardise as standardise
from kneefair_jax.models.unet import UNet as UNet

MODELS = {"unet": UNet}
DTYPES = {"float32": jnp.float32, "bfloat16": jnp.bfloat16}


def create(
    config: Mapping[str, Any],
    classes: int,
    axis_name: str | None = None,
    parts: Mapping[str, Any] | None = None,
) -> UNet:
    """The network that `config` describes: `name`, a key of `MODELS`, and that network's own fields.

    Args:
        config: for example `{"name": "unet", "widths": (16, 32, 64)}`.
        classes: output channels, background included.
        axis_name: mapped axis over which batch statistics are taken, inside `jax.pmap` or `jax.shard_map`.
        parts: `bottleneck` and `critic`, from `heads.HEADS`.

    Raises:
        InputError: there is no network, or no type, of that name.
        TypeError: the network has no such field.
    """
    fields = dict(config)
    network = choose(MODELS, fields.pop("name"), "model.name")
    fields["widths"] = tuple(fields["widths"])
    fields["dtype"] = choose(DTYPES, fields["dtype"], "model.dtype")
    return network(classes=classes, axis_name=axis_name, **fields, **(parts or {}))


def count(params: Any) -> int:
    """The number of scalars in a tree of arrays."""
    return sum(leaf.size for leaf in jax.tree.leaves(params))
