"""Describe the mismatch of a mask and a prediction: missing structures, and the correction that would make it fit."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from scipy import fft
from scipy.optimize import linear_sum_assignment

from kneefair_jax import anatomy, metrics
from kneefair_jax.errors import InputError
from kneefair_jax.label_errors.agreement import UNEXPLAINED_DICE, Z_THRESHOLD, dice, log_odds

# A correction explains a case if it closes this share of the distance to the agreement of the correct masks, or if it
# raises the log odds of Dice, of the structures that stand out and of all together, by this much (the odds of a wrong
# pixel fall by a third) to at least `UNEXPLAINED_DICE`. The network may agree less with this film than with the others.
_SHARE = 0.75
_GAIN = float(np.log(1.5))
_SAME_KNEE = 0.9  # Dice of the masks of two films of one knee, at least
_MAX_SHIFT = 4  # shifts up to 1 / 4 of the sides are tried
THUMBNAIL_SIDE = 64  # pixels; masks are compared with other films at this size


class Mismatch(NamedTuple):
    """What looks wrong with a mask.

    Attributes:
        reason: in words.
        has_correction: whether a correction of the mask itself explains it.
        is_unexplained: whether structures merely differ, as they also do where the network is wrong. A better fit of
            another film of the same knee does not change that.
    """

    reason: str
    has_correction: bool
    is_unexplained: bool


class OtherFilm(NamedTuple):
    """The other film whose prediction fits a mask best.

    Attributes:
        case_id: of the film.
        gain: f64[S + 1], how much the log odds of Dice of its prediction exceed those of the mask's own film.
        is_same_knee: whether its own mask is nearly this mask, and no copy of it: a film of the same knee, whose
            prediction fits without any error of the mask.
    """

    case_id: str
    gain: np.ndarray
    is_same_knee: bool


def describe_mismatch(
    label: np.ndarray,
    prediction: np.ndarray,
    structures: Sequence[str],
    center: np.ndarray,
    robust_z: np.ndarray,
    other_film: "OtherFilm",
) -> Mismatch:
    """Describe what is probably wrong with a mask.

    The description names missing structures, the correction that fits best, and the worst structure that neither
    explains.

    Args:
        label: u8[H, W], the cohort's mask.
        prediction: u8[H, W], the network's.
        structures: names of labels 1, 2, ...
        center: f64[S + 1], of the cohort's `Agreement`.
        robust_z: f64[S + 1], of this case, as `agreement.robust_z` returns it.
        other_film: the other film whose prediction fits the mask best.
    """
    counts = metrics.confusion_matrix(label, prediction, len(structures))
    odds = log_odds(counts)
    in_label, in_prediction = counts.sum(1)[1:] > 0, counts.sum(0)[1:] > 0
    findings = [f"{structures[int(s)]} missing" for s in np.flatnonzero(in_prediction & ~in_label)]
    gains = {
        text: odds_after - odds for text, odds_after in _corrections(label, prediction, structures, counts)
    }
    of_other_film = f"fits another film: {other_film.case_id}"
    gains[of_other_film] = other_film.gain
    best = max(gains, key=lambda text: gains[text][-1])
    gain = gains[best]
    in_both = in_label & in_prediction
    is_restored = gain >= _SHARE * (center - odds)
    stands_out = in_both & (robust_z[:-1] > Z_THRESHOLD)
    parts = np.append(stands_out, True)
    if ((gain >= _GAIN) & (dice(odds + gain) >= UNEXPLAINED_DICE))[parts].all() and stands_out.any():
        is_restored = is_restored | parts
    is_corrected = bool(gain[-1] > 0 and is_restored[-1])
    if is_corrected:
        findings.append(best)
    findings += [
        f"{structures[int(s)]} where the network sees none" for s in np.flatnonzero(in_label & ~in_prediction)
    ]
    # Structures of both masks that the correction does not restore; the findings above cover the others.
    may_be_same_knee = of_other_film if other_film.is_same_knee else ""
    is_unexplained = not [finding for finding in findings if finding != may_be_same_knee]
    unexplained = in_both & ~(is_corrected & is_restored[:-1])
    z = np.where(unexplained & ~np.isnan(robust_z[:-1]), robust_z[:-1], -np.inf)
    worst = int(z.argmax())
    if z[worst] > Z_THRESHOLD or not findings:
        worst = worst if np.isfinite(z[worst]) else int(np.nanargmin(odds[:-1]))
        findings.append(f"{structures[worst]} differs, Dice {dice(odds[worst]):.2f}")
    has_correction = is_corrected and best != may_be_same_knee
    return Mismatch("; ".join(findings), has_correction, is_unexplained)


def thumbnail(mask: np.ndarray) -> np.ndarray:
    """Sample a mask at the centers of `THUMBNAIL_SIDE` x `THUMBNAIL_SIDE` cells, u8[4096]."""
    rows, columns = (
        (np.arange(THUMBNAIL_SIDE) * 2 + 1) * side // (2 * THUMBNAIL_SIDE) for side in mask.shape
    )
    return mask[np.ix_(rows, columns)].ravel()


def best_other_film(
    label: np.ndarray, row: int, predictions: np.ndarray, structures: int
) -> tuple[int, np.ndarray]:
    """Find the other film whose prediction fits a mask best.

    Args:
        label: u8[H, W].
        row: the mask's own film.
        predictions: u8[N, 4096], the `thumbnail` of every film's prediction.
        structures: S.

    Returns:
        The film's row, and how much its log odds of Dice exceed those of the mask's own film, f64[S + 1].
    """
    mask = thumbnail(label)
    fit = _overlap_shares(mask, predictions)
    fit[row] = -1
    best = int(fit.argmax())
    odds_best, odds_own = (
        log_odds(metrics.confusion_matrix(mask, predictions[film], structures)) for film in (best, row)
    )
    return best, odds_best - odds_own


def is_same_knee(first: np.ndarray, second: np.ndarray) -> bool:
    """Return whether two masks, u8[4096] of `thumbnail`, are nearly equal without being equal."""
    (dice_of_all,) = 2 * _overlap_shares(first, second[None])
    return bool(dice_of_all >= _SAME_KNEE and (first != second).any())


def _overlap_shares(mask: np.ndarray, masks: np.ndarray) -> np.ndarray:
    """Return half the Dice of all structures together of a mask u8[P] and each of masks u8[N, P], f64[N]."""
    overlap = ((masks == mask) & (mask > 0)).sum(1)
    shares: np.ndarray = overlap / np.maximum((masks > 0).sum(1) + (mask > 0).sum(), 1)
    return shares


def _corrections(
    label: np.ndarray, prediction: np.ndarray, structures: Sequence[str], counts: np.ndarray
) -> Iterator[tuple[str, np.ndarray]]:
    """Yield each correction of the mask in words, and the log odds of Dice after it, f64[S + 1]."""

    def odds_after(mask: np.ndarray, prediction: np.ndarray) -> np.ndarray:
        return log_odds(metrics.confusion_matrix(mask, prediction, len(structures)))

    _, column = linear_sum_assignment(counts[1:, 1:], maximize=True)
    table = np.array([0, *(1 + column)], np.uint8)
    changed = [s for s, value in enumerate(table[1:]) if value != s + 1 and counts[s + 1, 1:].any()]
    if changed:
        yield _describe_exchange(table, changed, structures), odds_after(table[label], prediction)
    yield "fits better mirrored left to right", odds_after(label[:, ::-1], prediction)
    yield "fits better upside down", odds_after(label[::-1], prediction)
    down, right = _best_shift(label, prediction, len(structures))
    if down or right:
        shifted = _overlap(label, -down, -right), _overlap(prediction, down, right)
        yield f"fits better when moved {_describe_shift(down, right)}", odds_after(*shifted)


def _describe_exchange(table: np.ndarray, changed: Sequence[int], structures: Sequence[str]) -> str:
    try:
        sides = anatomy.flip_table(tuple(structures))
    except InputError:
        sides = np.arange(len(table))
    if all(table[s + 1] == sides[s + 1] for s in changed):
        return "left and right look exchanged"
    return f"the labels of {' and '.join(structures[s] for s in changed)} look exchanged"


def _best_shift(label: np.ndarray, prediction: np.ndarray, structures: int) -> tuple[int, int]:
    """Return by how many rows and columns to shift the mask so that most pixels agree: cross-correlation by FFT."""
    height, width = label.shape
    size = [fft.next_fast_len(2 * side, real=True) for side in label.shape]
    value = np.arange(1, structures + 1)[:, None, None]
    spectra = (fft.rfft2((mask == value).astype(np.float32), size) for mask in (prediction, label))
    prediction_spectrum, label_spectrum = spectra
    overlap = fft.irfft2((prediction_spectrum * label_spectrum.conj()).sum(0), size)
    down = np.arange(-(height // _MAX_SHIFT), height // _MAX_SHIFT + 1)
    right = np.arange(-(width // _MAX_SHIFT), width // _MAX_SHIFT + 1)
    place = overlap[np.ix_(down, right)].argmax()
    row, column = np.unravel_index(place, (len(down), len(right)))
    return int(down[row]), int(right[column])


def _overlap(mask: np.ndarray, down: int, right: int) -> np.ndarray:
    """Crop a mask to the part that stays on the film when the mask is shifted back by this many pixels."""
    height, width = mask.shape
    return mask[max(down, 0) : height + min(down, 0), max(right, 0) : width + min(right, 0)]


def _describe_shift(down: int, right: int) -> str:
    shifts = ((down, "down", "up"), (right, "right", "left"))
    return " and ".join(
        f"{abs(pixels)} pixels {positive if pixels > 0 else negative}"
        for pixels, positive, negative in shifts
        if pixels
    )
