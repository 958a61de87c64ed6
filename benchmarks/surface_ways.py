"""Other ways to the same surface distances, which `benchmarks/surface.py` measures beside the one that is used."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from scipy import ndimage
from scipy.spatial import KDTree

from benchmarks.surface_masks import Masks


def tree_per_structure(masks: Masks) -> np.ndarray:
    """A loop over cases and structures with two k-d trees each, f64[N, S, 3]."""
    return _loop(masks, lambda p, t, mm: KDTree(np.argwhere(t) * mm).query(np.argwhere(p) * mm)[0])


def distance_transform(masks: Masks) -> np.ndarray:
    """A loop with SciPy's exact Euclidean distance transforms of the smallest box, f64[N, S, 3]."""

    def distances(p: np.ndarray, t: np.ndarray, mm: np.ndarray) -> np.ndarray:
        box = ndimage.find_objects((p | t).astype(np.uint8))[0]
        return ndimage.distance_transform_edt(~t[box], sampling=mm)[p[box]]

    return _loop(masks, distances)


def _loop(masks: Masks, distances) -> np.ndarray:
    scores = np.full((len(masks.truth), masks.structures, 3), np.nan)
    for case, mm in enumerate(masks.spacing):
        for s in range(masks.structures):
            p, t = (_surface(labels[case] == s + 1) for labels in (masks.prediction, masks.truth))
            if p.any() and t.any():
                to_truth, to_prediction = distances(p, t, mm), distances(t, p, mm)
                pooled = np.concatenate([to_truth, to_prediction])
                hd95 = max(np.percentile(to_truth, 95), np.percentile(to_prediction, 95))
                scores[case, s] = hd95, pooled.mean(), (pooled <= 1 + 1e-6).mean()
    return scores


def _surface(mask: np.ndarray) -> np.ndarray:
    return mask & ~ndimage.binary_erosion(mask, border_value=1)


def jax_transform(masks: Masks) -> np.ndarray:
    """Exact separable transforms under `jax.jit`, columns by running extremes, rows by all pairs; f32[N, S, 3]."""
    run = jax.jit(jax.lax.map, static_argnums=0)
    arrays = masks.prediction, masks.truth, masks.spacing.astype(np.float32)
    return np.asarray(run(functools.partial(_jax_case, structures=masks.structures), arrays))


def _jax_case(case: tuple[jax.Array, ...], structures: int) -> jax.Array:
    prediction, truth, mm = case

    def scores(structure: jax.Array) -> jax.Array:
        p, t = (_jax_surface(label == structure) for label in (prediction, truth))
        to_truth = jnp.where(p, _jax_transform(t, mm), jnp.nan)
        to_prediction = jnp.where(t, _jax_transform(p, mm), jnp.nan)
        pooled = jnp.stack([to_truth, to_prediction])
        within = jnp.where(jnp.isnan(pooled), jnp.nan, pooled <= 1 + 1e-6)
        hd95 = jnp.nanpercentile(pooled, 95, axis=(1, 2)).max()
        return jnp.stack([hd95, jnp.nanmean(pooled), jnp.nanmean(within)])

    return jax.vmap(scores)(jnp.arange(1, structures + 1))


def _jax_surface(mask: jax.Array) -> jax.Array:
    around = jnp.pad(mask, 1, mode="edge")
    return mask & ~(around[2:, 1:-1] & around[:-2, 1:-1] & around[1:-1, 2:] & around[1:-1, :-2])


def _jax_transform(surface: jax.Array, mm: jax.Array) -> jax.Array:
    y, x = (jnp.arange(length) * step for length, step in zip(surface.shape, mm, strict=True))
    before = jax.lax.cummax(jnp.where(surface, y[:, None], -1e9), axis=0)
    after = jax.lax.cummin(jnp.where(surface, y[:, None], 1e9), axis=0, reverse=True)
    column = jnp.minimum(y[:, None] - before, after - y[:, None]) ** 2
    across = (x[:, None] - x) ** 2
    return jnp.sqrt(jax.lax.map(lambda row: (row + across).min(1), column))
