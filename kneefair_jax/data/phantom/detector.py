"""Turns line integrals into grey values: scatter, blur and quantum noise of the exposure, tone curve, processing.

Processing after the exposure is contrast and edge enhancement, collimation, seams, burnt-in text and inversion.
"""

import itertools

import jax
import jax.numpy as jnp
from jax.scipy.ndimage import map_coordinates

from kneefair_jax.data.phantom import objects
from kneefair_jax.data.phantom.ranges import Settings
from kneefair_jax.data.phantom.render import blur, smooth

SCATTER_MM = 18.0  # standard deviation of scattered radiation
SATURATION = 3.0  # the detector saturates at this much less attenuation than at the limb's axis
PITCH_PIXELS = 2.7  # distance of a grid's lines in the sampled image
LETTERS = 9  # of a burnt-in line
SCALES_MM = (0.6, 1.5, 4.0, 10.0, 25.0)  # between the bands of detail
# Attenuation of a detail that keeps its contrast; fainter details gain contrast, stronger ones lose it.
FULL_DETAIL = 0.5
GAIN = 4.0  # of the faintest detail, at strength 1
FINEST_GAIN = 1.5  # the same of the finest band, which is mostly noise
MAX_TILES = 8  # along a side
BINS = 64


def expose(
    rays: jax.Array,
    axis: jax.Array,
    noise: jax.Array | float,
    film: Settings,
    spacing: jax.Array,
    key: jax.Array,
) -> jax.Array:
    """Return the signal of a detector with a logarithmic response.

    Primary radiation is exp(-A). Scatter is primary radiation, spread over some centimeters, times the
    scatter-to-primary ratio. The count in a pixel is about Poisson with mean n = photons * area * (primary + scatter),
    so its logarithm has standard deviation 1 / sqrt(n). A Gaussian of that width replaces it: JAX's Poisson sampler is
    slow, and counts are large.

    Args:
        rays: f32[H, W], line integrals of attenuation.
        axis: f32[], attenuation at the limb's axis, the reference of the signal and of the photon count.
        noise: f32[], factor on the standard deviation.
        film: a draw of `ranges.FILM`.
        spacing: f32[2], mm per pixel down and across.
        key: decides the noise.

    Returns:
        f32[H, W], apparent attenuation relative to the axis.
    """
    noise_key, phase_key = jax.random.split(key)
    # The detector saturates in air.
    transmitted = jnp.exp(-jnp.maximum(rays - axis, -SATURATION))
    # A pixel averages over its area: a box of width 1 has the variance 1/12.
    pixels = jnp.maximum(film["blur_pixels"], 0.0)
    sigma = jnp.sqrt(jnp.square(film["blur_mm"] / spacing) + jnp.square(pixels) + 1 / 12)
    primary = blur(transmitted, sigma[0], sigma[1])
    # Scatter of the bright air around a limb would hide the limb; collimation prevents most of it.
    spread = SCATTER_MM / spacing
    scattered = blur(jnp.minimum(primary, 4.0), spread[0], spread[1])
    intensity = (primary + film["scatter"] * scattered) / (1 + film["scatter"])
    mean_count = jnp.exp(film["log_photons"]) * spacing[0] * spacing[1] * intensity
    signal = -jnp.log(intensity) + noise * jax.random.normal(noise_key, rays.shape) / jnp.sqrt(mean_count)
    phase = 2 * jnp.pi * jax.random.uniform(phase_key)
    lines = jnp.cos(2 * jnp.pi * jnp.arange(rays.shape[1]) / PITCH_PIXELS + phase)
    return signal + jnp.maximum(film["grid"], 0.0) * lines[None, :]


def develop(signal: jax.Array, film: Settings, spacing: jax.Array, key: jax.Array) -> jax.Array:
    """Convert attenuation to grey values in [0, 1]: uneven exposure, window, tone curve, edge enhancement.

    Args:
        signal: f32[H, W], from `expose`.
        film: a draw of `ranges.FILM`.
        spacing: f32[2], mm per pixel down and across.
        key: decides the unevenness and the digitizer's noise.

    Returns:
        f32[H, W]; bone is bright and air is black.
    """
    height, width = signal.shape
    field, speckle = jax.random.normal(key, (2, height, width))
    down = jnp.linspace(-0.5, 0.5, height)[:, None]
    across = jnp.linspace(-0.5, 0.5, width)[None, :]
    # Air is far darker than the low end of a window.
    signal = jnp.maximum(signal, film["level"] - 0.5)
    mean, deviation = signal.mean(), signal.std() + 1e-3
    uneven = film["field"] * smooth(field, height / 5, width / 5)
    uneven = uneven + film["slope_down"] * down + film["slope_across"] * across
    signal = signal + deviation * uneven
    low = film["level"] + film["auto"] * (mean - film["black"] * deviation - film["level"])
    high = film["level"] + film["latitude"]
    high = high + film["auto"] * (mean + film["white"] * deviation - high)
    grey = (signal - low) / (high - low)
    sigma = film["edge_mm"] / spacing
    grey = grey + jnp.maximum(film["edge"], 0.0) * (grey - blur(grey, sigma[0], sigma[1]))
    grey = jnp.clip(grey, 0.0, 1.0)
    grey = jnp.maximum(grey, 1e-6) ** jnp.exp2(film["log_gamma"])
    grey = grey + film["bend"] * jnp.sin(jnp.pi * grey) + film["bend_twice"] * jnp.sin(2 * jnp.pi * grey)
    grey = grey + jnp.maximum(film["speckle"], 0.0) * speckle
    return jnp.clip(grey, 0.0, 1.0)


def multiscale(
    signal: jax.Array, strength: jax.Array | float, base: jax.Array | float, spacing: jax.Array
) -> jax.Array:
    """Amplify faint detail of every scale and compress the coarsest.

    Args:
        signal: f32[H, W], attenuation relative to the limb's axis.
        strength: f32[], from 0, which changes nothing, to 1; negative strengths count as 0.
        base: f32[], factor on the coarsest scale at strength 1.
        spacing: f32[2], mm per pixel down and across.

    Returns:
        f32[H, W].

    Reference:
        Vuylsteke and Schoeters 1994, doi 10.1117/12.175090 (multiscale image contrast amplification), with
        differences of Gaussian blurs in place of a pyramid.
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
    """Enhance the edges of f32[H, W] in [0, 1] by unsharp masking; negative strengths count as 0."""
    sigma = scale_mm / spacing
    return jnp.clip(grey + jnp.maximum(strength, 0.0) * (grey - blur(grey, sigma[0], sigma[1])), 0.0, 1.0)


def clahe(grey: jax.Array, clip: jax.Array | float, tiles: jax.Array | float) -> jax.Array:
    """Apply contrast-limited adaptive histogram equalization, with bilinear interpolation between tiles.

    The excess over the clip limit is spread over all bins once, as in OpenCV.

    Args:
        grey: f32[H, W] in [0, 1].
        clip: f32[], the highest count of a bin as a multiple of the mean count; 1 or less changes nothing.
        tiles: f32[], number along each side, from 1 to `MAX_TILES`; rounded down.

    Returns:
        f32[H, W] in [0, 1].

    Reference:
        Zuiderveld 1994, Graphics Gems IV, 474-485.
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
    counts = jnp.zeros((MAX_TILES, MAX_TILES, BINS)).at[cell].add(1.0)
    mean = counts.mean(axis=-1, keepdims=True)
    clipped = jnp.minimum(counts, jnp.maximum(clip, 1.0) * mean)
    clipped += (counts - clipped).mean(axis=-1, keepdims=True)
    share = jnp.cumsum(clipped, axis=-1) / jnp.maximum(clipped.sum(axis=-1, keepdims=True), 1.0)
    # The mapping at the edges of the bins, from 0 to 1.
    mapping = jnp.pad(share, ((0, 0), (0, 0), (1, 0)))
    # Outside the centers of the outer tiles, the mappings of those tiles apply.
    place = [jnp.clip(at - 0.5, 0.0, tiles - 1) for at in (down[:, None], across[None, :])]
    equalized = map_coordinates(mapping, jnp.broadcast_arrays(*place, level), order=1, mode="nearest")
    return jnp.where(clip > 1, equalized, grey)


def finish(key: jax.Array, grey: jax.Array, film: Settings) -> tuple[jax.Array, jax.Array]:
    """Add seams, the collimated border and burnt-in text to an image, and invert it, as the settings say.

    Args:
        key: decides places and strengths.
        grey: f32[H, W] in [0, 1], bone bright.
        film: a draw of `ranges.FILM`.

    Returns:
        The image f32[H, W], and bool[H, W], True inside the collimated field.
    """
    edge_key, seam_key, text_key, shade_key = jax.random.split(key, 4)
    height, width = grey.shape
    down = ((jnp.arange(height) + 0.5) / height)[:, None]
    across = ((jnp.arange(width) + 0.5) / width)[None, :]
    grey = jnp.where(film["seam"] > 0, _seam(seam_key, grey, down), grey)
    beam = jnp.where(film["collimation"] > 0, _beam(edge_key, down, across), 1.0)
    grey = beam * grey + (1 - beam) * jnp.where(film["unexposed"] > 0, 1.0, 0.0)
    letters = _text(text_key, down, across, height / width)
    shade = (jax.random.uniform(shade_key) < 0.8).astype(jnp.float32)
    grey = jnp.where((film["text"] > 0) & (letters > 0), shade, grey)
    return jnp.where(film["inverted"] > 0, 1 - grey, grey), beam > 0.5


def _seam(key: jax.Array, grey: jax.Array, down: jax.Array) -> jax.Array:
    """Change the exposure below a line; the line itself may be visible."""
    place, step, line = jax.random.uniform(
        key, (3,), minval=jnp.array([0.05, -0.2, -1.0]), maxval=jnp.array([0.95, 0.2, 1.0])
    )
    stitched = jnp.where(down > place, grey * (1 + step) + 0.5 * jnp.minimum(step, 0), grey)
    at_line = jnp.abs(down - place) < 0.5 / grey.shape[0] + 0.002
    return jnp.clip(
        jnp.where(at_line & (jnp.abs(line) > 0.4), 0.5 + 0.5 * jnp.sign(line), stitched), 0.0, 1.0
    )


def _beam(key: jax.Array, down: jax.Array, across: jax.Array) -> jax.Array:
    """Return 1 inside a slightly turned rectangle, 0 outside, with a penumbra between."""
    draws = jax.random.uniform(key, (10,))
    # Some of the four edges lie in the image.
    margins = jnp.where(draws[:4] < 0.6, 0.16 * draws[4:8] ** 2, -0.5)
    angle = 0.1 * draws[8] - 0.05
    softness = 0.002 * 15 ** draws[9]
    v, u = down - 0.5, across - 0.5
    v, u = v * jnp.cos(angle) - u * jnp.sin(angle), v * jnp.sin(angle) + u * jnp.cos(angle)
    depth = jnp.minimum(
        jnp.minimum(v + 0.5 - margins[0], 0.5 - v - margins[1]),
        jnp.minimum(u + 0.5 - margins[2], 0.5 - u - margins[3]),
    )
    return jax.nn.sigmoid(depth / softness)


def _text(key: jax.Array, down: jax.Array, across: jax.Array, ratio: float) -> jax.Array:
    """Draw a line of letters and digits near the top or the bottom; 1 on its strokes."""
    draws = jax.random.uniform(key, (LETTERS + 3,))
    text = jnp.floor(draws[:LETTERS] * len(objects.BITMAPS)).astype(jnp.int32)
    top, left, size = -0.13 + 0.21 * draws[-3], 0.6 * draws[-2], 0.025 + 0.035 * draws[-1]
    v = (down - jnp.where(top < -0.025, 1 + top, jnp.maximum(top, 0))) / size * objects.GLYPH_HEIGHT
    u = (across - left) / (size * ratio) * objects.GLYPH_HEIGHT
    shape = jnp.broadcast_shapes(v.shape, u.shape)
    return objects.stamp(text, jnp.broadcast_to(v, shape), jnp.broadcast_to(u, shape))
