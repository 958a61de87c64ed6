"""Segmentation losses, one value per example: `(logits f32[B,H,W,C], label i32[B,H,W], valid) -> f32[B]`.

A loss that sums over the batch before it divides (batch Dice) cannot be split by group, so there is none here.
Class 0 is background. Region losses (Dice, Tversky) average over the structures 1..C-1, or over regions of several
classes, which may overlap (`with_regions`); pixel losses (cross-entropy, focal) average over all pixels.
With `valid`, bool[B,H,W], pixels where it is False (void) enter no sum and no mean, whatever their label, and their
gradient is 0; an example without a valid pixel has loss 0.
"""

from collections.abc import Callable
from functools import partial
from typing import cast

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

Valid = jax.Array | None
# bool[R, C], the classes of each region; None makes each of the classes 1..C-1 a region.
Regions = ArrayLike | None
Loss = Callable[[jax.Array, jax.Array, Valid], jax.Array]

# Added to numerator and denominator of a ratio of areas in pixels, so that a structure absent from both has loss 0.
SMOOTH = 1.0


def cross_entropy(logits: jax.Array, label: jax.Array, valid: Valid = None) -> jax.Array:
    """Return the mean over pixels of -log p(label).

    Args:
        logits: f32[B, H, W, C].
        label: i32[B, H, W] in [0, C); any number in void pixels.
        valid: bool[B, H, W], False in void pixels; None if no pixel is void.

    Returns:
        f32[B].
    """
    return -pixel_mean(_log_likelihood(logits, label, valid), valid)


def focal(logits: jax.Array, label: jax.Array, valid: Valid = None, gamma: float = 2.0) -> jax.Array:
    """Return the mean over pixels of -(1 - p)^gamma log p, p = p(label) (Lin et al., ICCV 2017, without alpha).

    Shapes as for `cross_entropy`; gamma 0 is cross-entropy.
    """
    log_p = _log_likelihood(logits, label, valid)
    # expm1 computes 1 - p exactly for p near 1, where the gradient of the power needs it.
    return pixel_mean(-((-jnp.expm1(log_p)) ** gamma) * log_p, valid)


def tversky(
    logits: jax.Array,
    label: jax.Array,
    valid: Valid = None,
    alpha: float = 0.3,
    beta: float = 0.7,
    *,
    regions: Regions = None,
) -> jax.Array:
    """Return 1 - the mean over structures of TP / (TP + alpha FP + beta FN) (Salehi et al., MLMI 2017).

    TP, FP and FN are sums of probabilities over one example's pixels. alpha = beta = 1/2 is soft Dice.
    Shapes as for `cross_entropy`. With `regions`, bool[R, C], the mean is over regions, whose probability is the sum
    over their classes (region-based training as in nnU-Net, but with one softmax).
    """
    _check_shapes(logits, label, valid)
    probability = _sum_regions(jax.nn.softmax(logits), regions)
    truth = _sum_regions(jax.nn.one_hot(_background_in_void(label, valid), logits.shape[-1]), regions)
    if valid is not None:
        probability = jnp.where(valid[..., None], probability, 0)
    true_positive = (probability * truth).sum((1, 2))
    false_positive = probability.sum((1, 2)) - true_positive
    false_negative = truth.sum((1, 2)) - true_positive
    # Half of SMOOTH here equals SMOOTH in the common form (2 TP + s) / (2 TP + FP + FN + s).
    smooth = SMOOTH / 2
    index = (true_positive + smooth) / (
        true_positive + alpha * false_positive + beta * false_negative + smooth
    )
    return 1.0 - index.mean(-1)


def soft_dice(
    logits: jax.Array, label: jax.Array, valid: Valid = None, *, regions: Regions = None
) -> jax.Array:
    """Return 1 - the mean over structures of (2 TP + s) / (2 TP + FP + FN + s) (Milletari et al., 3DV 2016).

    The denominator has areas, not their squares. Shapes as for `cross_entropy`, regions as for `tversky`.
    """
    return tversky(logits, label, valid, alpha=0.5, beta=0.5, regions=regions)


def dice_cross_entropy(
    logits: jax.Array, label: jax.Array, valid: Valid = None, *, regions: Regions = None
) -> jax.Array:
    """Return `soft_dice` + `cross_entropy`, nnU-Net's loss (Isensee et al., Nature Methods 2021), as for `tversky`."""
    return soft_dice(logits, label, valid, regions=regions) + cross_entropy(logits, label, valid)


LOSSES: dict[str, Loss] = {
    "cross_entropy": cross_entropy,
    "soft_dice": soft_dice,
    "dice_cross_entropy": dice_cross_entropy,
    "focal": focal,
    "tversky": tversky,
}


def with_regions(loss: Loss, regions: Regions) -> Loss:
    """Return the loss over regions, bool[R, C]; a pixel loss, and any loss with None, stays the same."""
    if regions is None or loss not in (tversky, soft_dice, dice_cross_entropy):
        return loss
    return cast(Loss, partial(cast(Callable[..., jax.Array], loss), regions=regions))


def pixel_mean(values: jax.Array, valid: Valid = None) -> jax.Array:
    """Average f32[B, H, W] over the valid pixels of each example, f32[B]; 0 where an example has none."""
    if valid is None:
        return values.mean((1, 2))
    return jnp.where(valid, values, 0).sum((1, 2)) / jnp.maximum(valid.sum((1, 2)), 1)


def _sum_regions(values: jax.Array, regions: Regions) -> jax.Array:
    """Sum f32[B, H, W, C] over the classes of each region: f32[B, H, W, R]."""
    if regions is None:
        return values[..., 1:]
    return jnp.einsum("bhwc,rc->bhwr", values, jnp.asarray(regions, values.dtype), precision="highest")


def _background_in_void(label: jax.Array, valid: Valid) -> jax.Array:
    """Replace void by background, so that each label is the index of a class."""
    return label if valid is None else jnp.where(valid, label, 0)


def _log_likelihood(logits: jax.Array, label: jax.Array, valid: Valid) -> jax.Array:
    """Return log p(label) of every pixel, f32[B, H, W]; in void pixels that of background."""
    _check_shapes(logits, label, valid)
    # one_hot and a sum: a gather is slow on TPU, and its gradient is a scatter.
    truth = jax.nn.one_hot(_background_in_void(label, valid), logits.shape[-1], dtype=logits.dtype)
    return (jax.nn.log_softmax(logits) * truth).sum(-1)


def _check_shapes(logits: jax.Array, label: jax.Array, valid: Valid) -> None:
    """Refuse shapes that would broadcast silently."""
    if logits.ndim != 4 or logits.shape[:3] != label.shape:
        raise ValueError(f"logits [B,H,W,C] and label [B,H,W] do not match: {logits.shape}, {label.shape}")
    if valid is not None and valid.shape != label.shape:
        raise ValueError(f"label and valid must both be [B,H,W]: {label.shape}, {valid.shape}")
