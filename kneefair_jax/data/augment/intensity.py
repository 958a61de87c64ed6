"""Grey values only: the label stays what it is."""

import jax
import jax.numpy as jnp

from kneefair_jax.data.augment.strength import Augmentation


def vary(key: jax.Array, image: jax.Array, strength: Augmentation) -> jax.Array:
    """Gamma, contrast, blur and noise of an image f32[H, W, C] in [0, 1]; noise may leave that range."""
    draw_key, noise_key = jax.random.split(key)
    gamma, contrast, noise = jax.random.uniform(draw_key, (3,))
    if strength.gamma:
        # The offset keeps the gradient-free power of 0 finite for exponents below one.
        image = jnp.clip(image, 1e-6, 1.0) ** jnp.exp2((2 * gamma - 1) * strength.gamma)
    if strength.contrast:
        mean = image.mean()
        image = jnp.clip(mean + (image - mean) * (1 + (2 * contrast - 1) * strength.contrast), 0.0, 1.0)
    if strength.blur:
        image = blur(image, jax.random.uniform(jax.random.fold_in(draw_key, 0)) * strength.blur)
    if strength.noise:
        image = image + noise * strength.noise * jax.random.normal(noise_key, image.shape)
    return image


def blur(image: jax.Array, sigma: jax.Array) -> jax.Array:
    """A Gaussian of standard deviation `sigma` pixels, normalised within the picture.

    Two products of matrices: a width drawn on the device needs no kernel of a fixed size.
    """
    height, width, _ = image.shape
    return jnp.einsum("hi,ijc,wj->hwc", _gaussian(height, sigma), image, _gaussian(width, sigma))


def _gaussian(size: int, sigma: jax.Array) -> jax.Array:
    """Rows of weights, f32[size, size], each summing to 1."""
    distance = jnp.arange(size)[:, None] - jnp.arange(size)
    return jax.nn.softmax(-0.5 * (distance / jnp.maximum(sigma, 1e-3)) ** 2)


def invert(key: jax.Array, image: jax.Array, probability: float) -> jax.Array:
    """Bright for dark, as in MONOCHROME1 read without its flag."""
    if not probability:
        return image
    return jnp.where(jax.random.bernoulli(key, probability), 1.0 - image, image)
