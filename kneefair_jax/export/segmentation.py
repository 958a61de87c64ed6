"""From the pixels of a radiograph to probabilities and a mask as one JAX function, for artifacts that run anywhere.

It computes what `predict` computes with `--raw`: eight bits, the working grid, standardization, the network,
probabilities, and the mask at the size of the radiograph. `predict` resizes with Pillow; here the same filter is a
product with a matrix, so that one program serves all sizes.

The network gets exactly the same pixels: Pillow rounds the weights of its filter to multiples of 2**-22 and each of the
two passes to eight bits (`src/libImaging/Resample.c`), and so do the products here.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from kneefair_jax import anatomy, models, weights
from kneefair_jax.errors import InputError
from kneefair_jax.predict import ensembles
from kneefair_jax.weights import Network

WEIGHT_BITS = 22  # of Pillow's filters for eight bits
Span = tuple[jax.Array, jax.Array]  # start and extent on the working grid, f64[]


class Segmentation(NamedTuple):
    """One network, or several whose probabilities are averaged, and how films enter them and masks leave.

    Attributes:
        networks: of one group, or for all cases.
        structures: names of labels 1, 2, ... of the mask.
        merge: f32[C, 1 + structures], which label a class of the networks counts for.
        grid: (h, w, c) of the working grid.
        fit: how films are placed on it, of `weights.FITS`.
        group: the group whose cases they segment; None for all cases.
    """

    networks: tuple[Network, ...]
    structures: tuple[str, ...]
    merge: np.ndarray
    grid: tuple[int, int, int]
    fit: str
    group: str | None


def by_group(
    ensemble: Sequence[weights.NetworksByGroup], fit: str = "", in_front: str = ""
) -> list[Segmentation]:
    """Return the segmentation of all cases, or that of each group if the networks are for single groups.

    Args:
        ensemble: of `weights.load_by_group`, whose probabilities are averaged.
        fit: of `weights.FITS`; "" follows the networks' descriptions.
        in_front: "tibia" or "fibula", as for `predict.load`.

    Raises:
        InputError: the networks cannot be averaged.
    """
    classes, grid = ensembles.shared_classes_and_grid(ensemble)
    structures = tuple(name for name in classes if name not in anatomy.OVERLAPS)
    merge = np.eye(len(structures) + 1, dtype=np.float32)[anatomy.translation(classes, structures, in_front)]
    fit = ensembles.fit(ensemble, fit)
    return [
        Segmentation(
            tuple(weights.select_group(checkpoint, group) for checkpoint in ensemble),
            structures,
            merge,
            grid,
            fit,
            group,
        )
        for group in ensembles.shared_groups(ensemble) or (None,)
    ]


def as_half(value: np.ndarray) -> np.ndarray:
    """Return f16 numbers.

    Raises:
        InputError: one is beyond the range of float16.
    """
    with np.errstate(over="ignore"):
        rounded = np.asarray(value, np.float16)
    if not np.isfinite(rounded).all():
        largest = float(np.abs(value).max())
        raise InputError(
            f"--half: a weight of {largest:.3g} is beyond float16; leave it out; no file was written"
        )
    return rounded


def segmentation_function(
    segmentation: Segmentation,
) -> Callable[[jax.Array, jax.Array], tuple[jax.Array, jax.Array]]:
    """Return `(image, is_eight_bit) -> (probabilities, mask)`, to be traced under `jax.enable_x64()`.

    image: f32[B, H, W], gray, bone bright: the numbers of u8, u16 or float pixels. is_eight_bit: bool[], whether they
    are those of u8. probabilities: f32[B, h, w, C] on the working grid, of background and the structures. mask:
    u8[B, H, W], 0 background.
    """
    grid, channels = segmentation.grid[:2], segmentation.grid[2]

    def segment(image: jax.Array, is_eight_bit: jax.Array) -> tuple[jax.Array, jax.Array]:
        pixels, rows, columns = working_grid(image, is_eight_bit, grid, segmentation.fit)
        films = jnp.broadcast_to(pixels.astype(jnp.uint8)[..., None], (*pixels.shape, channels))
        probabilities = mean_probabilities(segmentation.networks, films) @ segmentation.merge
        # As in ONNX: a film with NaN or infinite pixels has no result.
        is_finite = jnp.isfinite(image).all((1, 2))[:, None, None, None]
        probabilities = jnp.where(is_finite, probabilities, jnp.nan)
        return probabilities, labels(probabilities, image.shape[1:], rows, columns)

    return segment


def working_grid(
    image: jax.Array, is_eight_bit: jax.Array, grid: tuple[int, int], fit: str
) -> tuple[jax.Array, Span, Span]:
    """Return films on the working grid, and the rows and columns where they lie on it.

    Args:
        image: f32[B, H, W].
        is_eight_bit: bool[]; otherwise numbers are scaled from their 0.5 and 99.5 percentiles.
        grid: (h, w).
        fit: of `weights.FITS`.

    Returns:
        Whole numbers f32[B, h, w] from 0 to 255, 0 outside of the film; rows and columns.
    """
    height, width = image.shape[1:]
    rows, columns = place([jnp.asarray(length, jnp.float64) for length in (height, width)], grid, fit)
    down, across = (
        linear_weights(
            jnp.arange(cells) - start, jnp.arange(length), extent, jnp.asarray(length, jnp.float64)
        )
        for cells, (start, extent), length in zip(grid, (rows, columns), (height, width), strict=True)
    )
    pixels = jax.lax.cond(is_eight_bit, lambda x: jnp.clip(x, 0, 255), eight_bits, image)
    # First along rows, as Pillow does.
    pixels = fixed_point_product(pixels, across.T)
    return fixed_point_product(pixels.swapaxes(1, 2), down.T).swapaxes(1, 2), rows, columns


def eight_bits(image: jax.Array) -> jax.Array:
    """Scale f32[B, H, W] to whole numbers from 0 to 255, as `readers.to_uint8` does for other types than u8."""
    values = jnp.sort(image.reshape(image.shape[0], -1), axis=1)
    low, high = (percentile(values, share) for share in (0.5, 99.5))
    low, high = (
        jnp.where(high > low, part, values[:, end].astype(jnp.float64))
        for part, end in ((low, 0), (high, -1))
    )
    extent = jnp.maximum(high - low, 1e-12).astype(jnp.float32)[:, None, None]
    scaled = (image - low.astype(jnp.float32)[:, None, None]) / extent
    return jnp.rint(jnp.clip(scaled, 0, 1) * 255)


def percentile(values: jax.Array, share: float) -> jax.Array:
    """Return f64[B], `np.percentile` of sorted f32[B, N] by linear interpolation."""
    last = jnp.asarray(values.shape[1], jnp.float64) - 1
    position = last * (share / 100)
    lower_index = jnp.floor(position)
    lower, upper = (
        jnp.take(values, index.astype(jnp.int64), axis=1)
        for index in (lower_index, jnp.minimum(lower_index + 1, last))
    )
    step = (upper - lower).astype(jnp.float64)
    part = position - lower_index
    return jnp.where(part < 0.5, lower + step * part, upper - step * (1 - part))


def place(size: Sequence[jax.Array], grid: Sequence[int], fit: str) -> list[Span]:
    """Return start and extent on the grid, f64, along height and width, as `predict.grid.place_on_grid`."""
    if fit == "stretch":
        return [(jnp.float64(0), jnp.float64(cells)) for cells in grid]
    scale = jnp.minimum(*(cells / length for cells, length in zip(grid, size, strict=True)))
    spans = []
    for length, cells in zip(size, grid, strict=True):
        extent = jnp.minimum(jnp.maximum(jnp.round(scale * length), 1), cells)
        spans.append((jnp.floor((cells - extent) / 2), extent))
    return spans


def linear_weights(new: jax.Array, old: jax.Array, new_length: jax.Array, old_length: jax.Array) -> jax.Array:
    """Return f64[N, O], the weights of Pillow's linear filter, which widens when it reduces.

    Args:
        new: f64[N], positions from 0 to `new_length` - 1; a position outside has weights of 0.
        old: f64[O], positions from 0 to `old_length` - 1; likewise.
        new_length: number of pixels after.
        old_length: number of pixels before.
    """
    scale = old_length / new_length
    center = (new + 0.5) * scale
    distance = jnp.abs(old + 0.5 - center[:, None]) / jnp.maximum(scale, 1)
    is_inside = ((new >= 0) & (new < new_length))[:, None] & (old >= 0) & (old < old_length)
    weight = jnp.where(is_inside, jnp.maximum(1 - distance, 0), 0)
    total = weight.sum(1, keepdims=True)
    return weight / jnp.where(total > 0, total, 1)


def fixed_point_product(pixels: jax.Array, weight: jax.Array) -> jax.Array:
    """Return pixels f32[B, H, O] times weights f64[O, N], of whole numbers from 0 to 255, rounded as Pillow rounds."""
    units = jnp.floor(weight * 2**WEIGHT_BITS + 0.5)
    total = jnp.matmul(pixels.astype(jnp.int32), units.astype(jnp.int32))
    return jnp.clip((total + 2 ** (WEIGHT_BITS - 1)) >> WEIGHT_BITS, 0, 255).astype(jnp.float32)


def mean_probabilities(networks: Sequence[Network], films: jax.Array) -> jax.Array:
    """Return f32[B, h, w, C], the mean of the networks' probabilities of u8[B, h, w, c]."""

    def probabilities(network: Network) -> jax.Array:
        variables: Any = jax.tree.map(lambda leaf: jnp.asarray(leaf).astype(jnp.float32), network.variables)
        return jax.nn.softmax(jnp.asarray(network.model.apply(variables, models.standardize(films))))

    return jnp.mean(jnp.stack([probabilities(network) for network in networks]), axis=0)


def labels(
    probabilities: jax.Array,
    size: Sequence[Any],
    rows: Span,
    columns: Span,
) -> jax.Array:
    """Return u8[B, H, W], the most probable class at another size, as `readers.labels_at`.

    Args:
        probabilities: f32[B, h, w, C] on the working grid.
        size: H and W.
        rows: start and extent of the film on the grid.
        columns: likewise.
    """
    down, across = (
        linear_weights(
            jnp.arange(length, dtype=jnp.float64),
            jnp.arange(cells) - start,
            jnp.asarray(length, jnp.float64),
            extent,
        ).astype(jnp.float32)
        for length, cells, (start, extent) in (
            (size[0], probabilities.shape[1], rows),
            (size[1], probabilities.shape[2], columns),
        )
    )
    highest = jnp.zeros((probabilities.shape[0], *size), jnp.float32)
    label = jnp.zeros(highest.shape, jnp.uint8)
    for value in range(probabilities.shape[-1]):
        plane = jnp.matmul(probabilities[..., value], across.T, precision="highest")
        plane = jnp.matmul(down, plane, precision="highest")
        label = jnp.where(plane > highest, jnp.uint8(value), label)
        highest = jnp.maximum(highest, plane)
    return label
