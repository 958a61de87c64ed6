"""From line integrals to grey values: scatter, blur and quantum noise of the exposure, then the tone curve."""

import jax
import jax.numpy as jnp

from kneefair_jax.data.phantom.ranges import Settings
from kneefair_jax.data.phantom.render import blur, smooth

SCATTER_MM = 18.0  # standard deviation of scattered radiation
SATURATION = 3.0  # the detector saturates at this much less attenuation than at the limb's axis
PITCH_PIXELS = 2.7  # distance of a grid's lines in the sampled image


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
