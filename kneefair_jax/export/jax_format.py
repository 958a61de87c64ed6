"""A segmentation as StableHLO, by `jax.export`: a program for CPU, CUDA and TPU that needs JAX alone."""

import jax
import jax.numpy as jnp
from jax import export

from kneefair_jax.export import segmentation
from kneefair_jax.export.segmentation import Segmentation

PLATFORMS = ("cpu", "cuda", "tpu")


def program(pipeline: Segmentation, half: bool = False) -> bytes:
    """Return the serialized program `(image, is_eight_bit) -> (probabilities, mask)` of `segmentation_function`.

    Batch, height and width are symbolic.

    Args:
        pipeline: networks, and how films enter them and masks leave.
        half: whether weights are stored as float16; the computation is in the networks' type.
    """
    if half:
        pipeline = pipeline._replace(
            networks=tuple(
                network._replace(variables=jax.tree.map(segmentation.as_half, network.variables))
                for network in pipeline.networks
            )
        )
    with jax.enable_x64(True):  # Pillow computes the weights of its filter as doubles
        shape = export.symbolic_shape("batch, height, width")
        image = jax.ShapeDtypeStruct(shape, jnp.float32)
        is_eight_bit = jax.ShapeDtypeStruct((), jnp.bool)
        function = jax.jit(segmentation.segmentation_function(pipeline))
        return bytes(export.export(function, platforms=PLATFORMS)(image, is_eight_bit).serialize())
