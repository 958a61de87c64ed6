"""Masks to measure surfaces of: knees and their predictions, random and adversarial ones."""

import functools
import itertools
from typing import NamedTuple

import jax
import numpy as np
from scipy import ndimage

from kneefair_jax.data.phantom import draw_case


class Masks(NamedTuple):
    """Predicted and true labels u8[N, H, W] of some structures, and mm per pixel f64[N, 2]."""

    prediction: np.ndarray
    truth: np.ndarray
    spacing: np.ndarray
    structures: int

    def padded(self) -> "Masks":
        """With two pixels of background around, so that no structure touches the border."""
        room = ((0, 0), (2, 2), (2, 2))
        return self._replace(prediction=np.pad(self.prediction, room), truth=np.pad(self.truth, room))


def knees(cases: int, side: int) -> Masks:
    """Phantoms with four bones; predictions are warped by some 2 pixels, and every second is eroded by one as well."""
    draw = jax.jit(lambda keys: jax.lax.map(functools.partial(draw_case, size=(side, side)), keys))
    rng = np.random.default_rng(0)
    truths, spacings = [], []
    for start in range(0, cases, 20):
        films = draw(jax.random.split(jax.random.fold_in(jax.random.key(0), start), 20))
        truths.append(np.asarray(films.exact, np.uint8))
        spacings.append(np.asarray(films.spacing, float))
    truth, spacing = np.concatenate(truths)[:cases], np.concatenate(spacings)[:cases]
    grid = np.indices((side, side)).astype(float)
    prediction = []
    for number, label in enumerate(truth):
        shift = ndimage.gaussian_filter(rng.normal(size=grid.shape), (0, 10, 10))
        warped = ndimage.map_coordinates(label, grid + 2 * shift / shift.std(), order=0, mode="nearest")
        if number % 2:
            inner = ndimage.minimum_filter(warped, 3) == ndimage.maximum_filter(warped, 3)
            warped = np.where(inner, warped, 0)
        prediction.append(warped)
    return Masks(np.stack(prediction), truth, spacing, 4)


def noise(cases: int, side: int, smooth: float) -> Masks:
    """Three structures of pixels at random, or of blobs where `smooth` (pixels) is not 0; spacings at random."""
    rng = np.random.default_rng(1)
    values = ndimage.gaussian_filter(rng.normal(size=(2, cases, side, side)), (0, 0, smooth, smooth))
    values[0] += values[1]
    levels = np.quantile(values, [0.5, 0.7, 0.9])
    labels = np.searchsorted(levels, values).astype(np.uint8)
    return Masks(*labels, rng.choice([0.2, 0.35, 0.7, 1.0, 3.0], (cases, 2)), 3)


def adversarial(side: int = 24) -> Masks:
    """Every pair of: a pixel, two far apart, thin lines, a ring, a chequerboard, a comb, a square; three spacings."""
    y, x = np.indices((side, side))
    inside = (y > 1) & (y < side - 2) & (x > 1) & (x < side - 2)
    radius = np.hypot(y - side / 2, x - side / 2)
    shapes = [
        (y == 5) & (x == 7),
        ((y == 3) & (x == 3)) | ((y == side - 4) & (x == side - 4)),
        y == side // 2,
        x == 9,
        y == x,
        np.abs(radius - side / 3) < 0.6,
        (y + x) % 2 == 0,
        (x % 3 == 0) | (y == 4),
        (y > 6) & (y < 15) & (x > 4) & (x < 17),
    ]
    pairs = list(itertools.product([(shape & inside).astype(np.uint8) for shape in shapes], repeat=2))
    spacings = [(1.0, 1.0), (0.2, 3.0), (3.0, 0.35)]
    prediction, truth = np.array(pairs * len(spacings)).transpose(1, 0, 2, 3)
    return Masks(prediction, truth, np.repeat(np.array(spacings), len(pairs), axis=0), 1)


def shifted_squares(side: int = 40) -> Masks:
    """Squares moved along one axis by less than half their side: a quarter of each outline is that far away."""
    masks = []
    for size, axis in itertools.product((8, 13, 20), (0, 1)):
        for shift in range(1, size // 2):
            truth = np.zeros((side, side), np.uint8)
            truth[4 : 4 + size, 4 : 4 + size] = 1
            masks.append((np.roll(truth, shift, axis), truth))
    prediction, truth = np.array(masks).transpose(1, 0, 2, 3)
    return Masks(prediction, truth, np.full((len(masks), 2), 0.7), 1)
