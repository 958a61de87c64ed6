"""Segmentation losses, one value per example: `(logits f32[B,H,W,C], label i32[B,H,W], valid) -> f32[B]`.

A loss that sums over the batch before it divides (batch Dice) cannot be split by group, so there is none here.
Class 0 is background. Region losses (Dice, Tversky) average over the structures 1..C-1, or over regions of several
classes, which may overlap (`with_regions`); pixel losses (cross-entropy, focal) average over all pixels.
With `valid`, bool[B,H,W], pixels where it is False (void) enter no sum and no mean, whatever their label, and their
gradient is 0; an example without a valid pixel has loss 0.
With `sets`, bool[B,C,C], the mask of an example shows only some structures: a pixel with label l is of one of the
classes `sets[b, l]` (`anatomy.label_sets`). Pixel losses take the probability of the whole set (the marginal loss of
Shi et al., Medical Image Analysis 2021, arXiv 2007.03868), region losses average over the regions that the sets
determine.
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
# bool[B, C, C], the classes that a pixel of each label may be of; None where each label is its class.
Sets = jax.Array | None
# `(logits, label, valid) -> f32[B]`, with `sets` too where masks are annotated in part.
Loss = Callable[..., jax.Array]

# Added to the logarithm of a probability that does not count; finite, since 0 times infinity is not a number.
_EXCLUDED = -1e9
# Added to numerator and denominator of a ratio of areas in pixels, so that a structure absent from both has loss 0.
SMOOTH = 1.0


def cross_entropy(
    logits: jax.Array, label: jax.Array, valid: Valid = None, *, sets: Sets = None
) -> jax.Array:
    """Return the mean over pixels of -log p(label), or of -log of the probability of the label's set.

    Args:
        logits: f32[B, H, W, C].
        label: i32[B, H, W] in [0, C); any number in void pixels.
        valid: bool[B, H, W], False in void pixels; None if no pixel is void.
        sets: bool[B, C, C], each label in its own set; None for labels that are classes.

    Returns:
        f32[B].
    """
    return -pixel_mean(_log_likelihood(logits, label, valid, sets), valid)


def focal(
    logits: jax.Array, label: jax.Array, valid: Valid = None, gamma: float = 2.0, *, sets: Sets = None
) -> jax.Array:
    """Return the mean over pixels of -(1 - p)^gamma log p, p = p(label) (Lin et al., ICCV 2017, without alpha).

    Shapes as for `cross_entropy`; gamma 0 is cross-entropy.
    """
    log_p = _log_likelihood(logits, label, valid, sets)
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
    sets: Sets = None,
) -> jax.Array:
    """Return 1 - the mean over structures of TP / (TP + alpha FP + beta FN) (Salehi et al., MLMI 2017).

    TP, FP and FN are sums of probabilities over one example's pixels. alpha = beta = 1/2 is soft Dice.
    Shapes as for `cross_entropy`. With `regions`, bool[R, C], the mean is over regions, whose probability is the sum
    over their classes (region-based training as in nnU-Net, but with one softmax). With `sets`, the mean is over the
    regions that each set is inside or outside of; without any, the loss is 0.
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
    if sets is None:
        return 1.0 - index.mean(-1)
    has_index = is_determined(sets, _region_members(logits.shape[-1], regions)).astype(index.dtype)
    return (has_index * (1.0 - index)).sum(-1) / jnp.maximum(has_index.sum(-1), 1.0)


def soft_dice(
    logits: jax.Array,
    label: jax.Array,
    valid: Valid = None,
    *,
    regions: Regions = None,
    sets: Sets = None,
) -> jax.Array:
    """Return 1 - the mean over structures of (2 TP + s) / (2 TP + FP + FN + s) (Milletari et al., 3DV 2016).

    The denominator has areas, not their squares. Shapes as for `cross_entropy`, regions as for `tversky`.
    """
    return tversky(logits, label, valid, alpha=0.5, beta=0.5, regions=regions, sets=sets)


def dice_cross_entropy(
    logits: jax.Array,
    label: jax.Array,
    valid: Valid = None,
    *,
    regions: Regions = None,
    sets: Sets = None,
) -> jax.Array:
    """Return `soft_dice` + `cross_entropy`, nnU-Net's loss (Isensee et al., Nature Methods 2021), as for `tversky`."""
    regional = soft_dice(logits, label, valid, regions=regions, sets=sets)
    return regional + cross_entropy(logits, label, valid, sets=sets)


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
    return cast(Loss, partial(loss, regions=regions))


def distillation(
    logits: jax.Array,
    teacher_logits: jax.Array,
    group: jax.Array,
    valid: jax.Array | None = None,
    temperature: float = 1.0,
) -> jax.Array:
    """Return T^2 KL(p_teacher(a) || p), mean over pixels; the teacher is that of the example's own group (FairDi).

    Both probabilities are the softmax of logits / T, and T^2 keeps the size of the gradient.

    Reference: Hinton, Vinyals and Dean, 2015, arXiv 1503.02531.

    Args:
        logits: f32[B, H, W, C] of the student.
        teacher_logits: f32[G, B, H, W, C], the logits of every group's teacher.
        group: i32[B]; -1 has no teacher.
        valid: bool[B, H, W], False in void pixels, which teachers do not know; None without void pixels.
        temperature: T, above 0.

    Returns:
        f32[B]; 0 where the group is unknown.
    """
    member = jax.nn.one_hot(group, teacher_logits.shape[0])
    own = jnp.einsum("bg,gbhwc->bhwc", member, teacher_logits, precision="highest")
    teacher = jax.nn.log_softmax(jax.lax.stop_gradient(own) / temperature)
    divergence = (jnp.exp(teacher) * (teacher - jax.nn.log_softmax(logits / temperature))).sum(-1)
    return temperature**2 * pixel_mean(divergence, valid) * (group >= 0)


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


def is_determined(sets: jax.Array, members: ArrayLike) -> jax.Array:
    """Return which regions a mask with these sets shows: those that each set is inside or outside of.

    `anatomy.is_determined` is the same for NumPy; this module needs nothing but JAX.

    Args:
        sets: bool[..., C, C].
        members: bool[R, C], the classes of each region.

    Returns:
        bool[..., R].
    """
    inside = (sets[..., None, :] & jnp.asarray(members)).sum(-1)  # [..., C, R], classes of a set in a region
    return ((inside == 0) | (inside == sets.sum(-1)[..., None])).all(-2)


def _region_members(classes: int, regions: Regions) -> jax.Array:
    """Return bool[R, C], the classes of each region."""
    return jnp.eye(classes, dtype=bool)[1:] if regions is None else jnp.asarray(regions, bool)


def _background_in_void(label: jax.Array, valid: Valid) -> jax.Array:
    """Replace void by background, so that each label is the index of a class."""
    return label if valid is None else jnp.where(valid, label, 0)


def _log_likelihood(logits: jax.Array, label: jax.Array, valid: Valid, sets: Sets = None) -> jax.Array:
    """Return log p(label's set) of every pixel, f32[B, H, W]; in void pixels that of background."""
    _check_shapes(logits, label, valid)
    # one_hot and a sum: a gather is slow on TPU, and its gradient is a scatter.
    truth = jax.nn.one_hot(_background_in_void(label, valid), logits.shape[-1], dtype=logits.dtype)
    log_p = jax.nn.log_softmax(logits)
    if sets is None:
        return (log_p * truth).sum(-1)
    members = jnp.einsum("bhwl,blc->bhwc", truth, sets.astype(truth.dtype), precision="highest")
    # Rounding could make the sum of all probabilities exceed 1.
    return jnp.minimum(jax.nn.logsumexp(log_p + _EXCLUDED * (1 - members), -1), 0.0)


def _check_shapes(logits: jax.Array, label: jax.Array, valid: Valid) -> None:
    """Refuse shapes that would broadcast silently."""
    if logits.ndim != 4 or logits.shape[:3] != label.shape:
        raise ValueError(f"logits [B,H,W,C] and label [B,H,W] do not match: {logits.shape}, {label.shape}")
    if valid is not None and valid.shape != label.shape:
        raise ValueError(f"label and valid must both be [B,H,W]: {label.shape}, {valid.shape}")
