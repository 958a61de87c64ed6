"""Contrast and edge enhancement as detectors and archives apply it: multi-scale, CLAHE, unsharp masking."""

import itertools

import jax
import jax.numpy as jnp
from jax.scipy.ndimage import map_coordinates

from kneefair_jax.data.phantom.curves import blur

SCALES_MM = (0.6, 1.5, 4.0, 10.0, 25.0)  # between the bands of detail
FULL_DETAIL = (
    0.5  # attenuation of a detail that keeps its contrast; what is fainter gains, what is stronger loses
)
GAIN = 4.0  # of the faintest detail, at strength 1
FINEST_GAIN = 1.5  # the same of the finest band, which is mostly noise

MOST_TILES = 8  # along a side
BINS = 64


def multiscale(
    signal: jax.Array, strength: jax.Array | float, base: jax.Array | float, spacing: jax.Array
) -> jax.Array:
    """Amplify faint detail of every scale and compress the coarsest.

    Reference: Vuylsteke and Schoeters 1994, doi 10.1117/12.175090 (multiscale image contrast amplification), with
    differences of Gaussian blurs in place of a pyramid.

    Args:
        signal: f32[H, W], attenuation relative to the limb's axis.
        strength: f32[], from 0 to 1; below 0 as 0, which leaves the signal as it is.
        base: f32[], factor on the coarsest scale at strength 1.
        spacing: f32[2], mm per pixel down and across.

    Returns:
        f32[H, W].
    """
    strength = jnp.maximum(strength, 0.0)
    levels = [signal, *(blur(signal, *(scale / spacing)) for scale in SCALES_MM)]
    result = levels[-1] * (1 - strength * (1 - base))
    for number, (fine, coarse) in enumerate(itertools.pairwise(levels)):
        detail = fine - coarse
        gain = 1 + strength * ((FINEST_GAIN if number == 0 else GAIN) - 1)
        result += gain * detail / (1 + (gain - 1) * jnp.abs(detail) / FULL_DETAIL)
    return result


def sharpen(
    grey: jax.Array, strength: jax.Array | float, scale_mm: jax.Array | float, spacing: jax.Array
) -> jax.Array:
    """Enhance the edges of f32[H, W] in [0, 1] by unsharp masking; strengths below 0 count as 0."""
    sigma = scale_mm / spacing
    return jnp.clip(grey + jnp.maximum(strength, 0.0) * (grey - blur(grey, sigma[0], sigma[1])), 0.0, 1.0)


def clahe(grey: jax.Array, clip: jax.Array | float, tiles: jax.Array | float) -> jax.Array:
    """Contrast-limited adaptive histogram equalization, with bilinear interpolation between tiles.

    Reference: Zuiderveld 1994, Graphics Gems IV, 474-485. The excess over the clip limit is spread over all bins
    once, as OpenCV does.

    Args:
        grey: f32[H, W] in [0, 1].
        clip: f32[], the highest count of a bin as a multiple of the mean count; at most 1 leaves the picture as it is.
        tiles: f32[], along either side, from 1 to `MOST_TILES`; rounded down.

    Returns:
        f32[H, W] in [0, 1].
    """
    height, width = grey.shape
    tiles = jnp.floor(tiles)
    down = (jnp.arange(height) + 0.5) / height * tiles
    across = (jnp.arange(width) + 0.5) / width * tiles
    level = jnp.clip(grey, 0.0, 1.0) * BINS
    cell = (
        down[:, None].astype(jnp.int32),
        across[None, :].astype(jnp.int32),
        jnp.minimum(level.astype(jnp.int32), BINS - 1),
    )
    counts = jnp.zeros((MOST_TILES, MOST_TILES, BINS)).at[cell].add(1.0)
    mean = counts.mean(axis=-1, keepdims=True)
    clipped = jnp.minimum(counts, jnp.maximum(clip, 1.0) * mean)
    clipped += (counts - clipped).mean(axis=-1, keepdims=True)
    share = jnp.cumsum(clipped, axis=-1) / jnp.maximum(clipped.sum(axis=-1, keepdims=True), 1.0)
    # The mapping at the edges of the bins, from 0 to 1.
    mapping = jnp.pad(share, ((0, 0), (0, 0), (1, 0)))
    # Beyond the outer tiles' centers the outer tiles' mappings hold.
    place = [jnp.clip(at - 0.5, 0.0, tiles - 1) for at in (down[:, None], across[None, :])]
    equalized = map_coordinates(mapping, jnp.broadcast_arrays(*place, level), order=1, mode="nearest")
    return jnp.where(clip > 1, equalized, grey)
