"""Networks by the name and fields of a config's `model` section, and the memory that they need."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from kneefair_jax.errors import InputError, lookup
from kneefair_jax.models.resnet import RESNET18, RESNET34, ResNetUNet
from kneefair_jax.models.unet import UNet

MODELS: dict[str, Callable[..., nn.Module]] = {
    "unet": UNet,
    "resnet18_unet": partial(ResNetUNet, blocks=RESNET18),
    "resnet34_unet": partial(ResNetUNet, blocks=RESNET34),
}
# float64 needs JAX_ENABLE_X64; `benchmarks/agreement.py` uses it to compare ways to run.
DTYPES = {"float32": jnp.float32, "bfloat16": jnp.bfloat16, "float64": jnp.float64}
FIELDS = ("widths", "convolutions", "norm", "dtype", "stem", "remat")
PRETRAINED = ("resnet18_unet", "resnet34_unet")  # the networks that `weights` can initialize


def create(
    config: Mapping[str, Any],
    classes: int,
    axis_name: str | None = None,
    parts: Mapping[str, Any] | None = None,
) -> nn.Module:
    """Build the network that `config` describes: `name`, a key of `MODELS`, and any of `FIELDS`.

    Of `weights`, a file, this function only checks that the network takes one; `weights.warm_start` reads it.

    Args:
        config: for example `{"name": "unet", "widths": (16, 32, 64)}`.
        classes: output channels, background included.
        axis_name: mapped axis over which batch statistics are taken, inside `jax.pmap` or `jax.shard_map`.
        parts: `bottleneck` and `critic`, from `heads.HEADS`.

    Raises:
        InputError: a network, type or field of that name does not exist, or the network takes no weights.
    """
    fields = dict(config)
    name = fields.pop("name")
    network = lookup(MODELS, name, "config.model.name")
    weights = fields.pop("weights", "")
    if weights and name not in PRETRAINED:
        raise InputError(
            f"config.model.weights={weights!r}: {name} takes no weights; give '', or one of {', '.join(PRETRAINED)} "
            "as model.name"
        )
    if unknown := sorted(fields.keys() - set(FIELDS)):
        raise InputError(
            f"config.model.{unknown[0]}: there is no such field; the fields are {', '.join(FIELDS)}"
        )
    if "widths" in fields:
        fields["widths"] = tuple(fields["widths"])
    if "dtype" in fields:
        if fields["dtype"] == "float64" and not jax.config.jax_enable_x64:
            raise InputError(
                "config.model.dtype='float64': JAX has float64 only with JAX_ENABLE_X64=1; set it"
            )
        fields["dtype"] = lookup(DTYPES, fields["dtype"], "config.model.dtype")
    return network(classes=classes, axis_name=axis_name, **fields, **(parts or {}))


def count(params: Any) -> int:
    """Count the scalars in a tree of arrays."""
    return sum(leaf.size for leaf in jax.tree.leaves(params))


def inference_bytes(model: nn.Module, grid: tuple[int, int, int]) -> int:
    """Return the bytes that inference of one image (H, W, C) needs: on CPU, 5 times the largest activation."""
    return 5 * max(_activations(model, grid))


def training_bytes(model: nn.Module, grid: tuple[int, int, int], *, remat: bool = False) -> int:
    """Return the bytes that a training step needs for each image (H, W, C).

    XLA on CPU takes 0.9 times the sum of all activations; with `remat`, it does not store those inside the blocks.
    """
    sizes = _activations(model, grid)
    return 5 * max(sizes) if remat else sum(sizes) * 9 // 10


def _activations(model: nn.Module, grid: tuple[int, int, int]) -> list[int]:
    """Return the bytes of the output of each layer for one image."""
    image = jax.ShapeDtypeStruct((1, *grid), jnp.float32)
    variables = jax.eval_shape(model.init, jax.random.key(0), image)

    def forward(variables: Any, image: jax.Array) -> Any:
        return model.apply(variables, image, capture_intermediates=True, mutable=["intermediates"])[1]

    outputs = jax.tree.leaves(jax.eval_shape(forward, variables, image))
    return [output.size * output.dtype.itemsize for output in outputs]
