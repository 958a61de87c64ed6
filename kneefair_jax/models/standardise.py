"""What every network here expects of its input."""

import jax
import jax.numpy as jnp


def standardise(image: jax.Array, epsilon: float = 1e-3) -> jax.Array:
    """Gives each image mean 0 and variance 1, so that exposure and window do not matter.

    Args:
        image: u8 in [0, 255] or f32 in [0, 1], [B, H, W, C]; f64 stays f64.
        epsilon: keeps a blank image finite; far below the contrast of any film.

    Returns:
        f32[B, H, W, C].
    """
    scale = 255.0 if image.dtype == jnp.uint8 else 1.0
    image = image.astype(jnp.promote_types(image.dtype, jnp.float32)) / scale
    mean = image.mean((1, 2, 3), keepdims=True)
    deviation = image.std((1, 2, 3), keepdims=True)
    return (image - mean) / (deviation + epsilon)
