"""Agreement of a cohort's masks with a network's predictions, and how far each lies below that of correct masks."""

from typing import NamedTuple

import numpy as np

# Robust z from which a mask is flagged, as for the other measures of `preflight.check`. Iglewicz and Hoaglin (1993) use
# 3.5, but a network's errors have a longer tail than a normal distribution.
Z_THRESHOLD = 5.0
# A structure with this Dice or more is never flagged. Of 200 exact phantom masks at 64 pixels and 200 at 128, three lie
# beyond `Z_THRESHOLD`, with Dice 0.959 to 0.978; this limit keeps them from being flagged. Of masks shifted by one
# pixel, 20 of 20 at 64 pixels and 11 of 20 at 128 are below it, and all of those shifted by two pixels.
GOOD_DICE = 0.95
_MAD_OF_NORMAL = 1.4826
# A structure whose Dice is in the interval that the network predicts for its own mask is never flagged: the network may
# be wrong there. An interval that begins lower than this says too little: a missing label has Dice 0.
LOWEST_EXPECTED = 0.5
# Cases that a structure needs: of five values, three that agree by chance would be the scale.
MIN_CASES = 6
_MIN_SCALE = 0.1  # log odds: Dice 0.990 against 0.989; a smaller difference is not visible
_CUT = 2.5  # usual for reweighting (Rousseeuw and Leroy 1987)
_ROUNDS = 100
# A correction is evidence beyond the agreement, so such masks are flagged up to this Dice of a structure, whatever Dice
# the network expects.
GOOD_EXPLAINED_DICE = 0.97
# A structure that differs, which no correction explains, is also what a network's error looks like. Such a mask is
# flagged where the structure is this far from the others or has a lower Dice than this: half a structure has 0.67.
UNEXPLAINED_Z, UNEXPLAINED_DICE = 10.0, 0.85


def log_odds(counts: np.ndarray) -> np.ndarray:
    """Return the log odds of Dice, of each structure and of all structures together.

    log(D / (1 - D)) with D = 2 I / (A + B): Dice values cluster just below 1, their log odds do not. Half a pixel is
    added to both sides, as for a logit of counts (Haldane 1956), so that zero and full agreement stay finite.

    Args:
        counts: i64[..., S + 1, S + 1], the result of `metrics.confusion_matrix`.

    Returns:
        f64[..., S + 1], the last of all structures together; NaN where a structure is in neither mask.
    """
    overlap = np.diagonal(counts, axis1=-2, axis2=-1)[..., 1:]
    areas = counts.sum(-1)[..., 1:] + counts.sum(-2)[..., 1:]
    overlap, areas = (np.concatenate([x, x.sum(-1, keepdims=True)], axis=-1) for x in (overlap, areas))
    odds = np.log((2 * overlap + 0.5) / (areas - 2 * overlap + 0.5))
    return np.where(areas > 0, odds, np.nan)


def dice(odds: np.ndarray) -> np.ndarray:
    """Return the Dice that has these log odds."""
    return 1 / (1 + np.exp(-odds))


class Agreement(NamedTuple):
    """Log odds of Dice of the correct masks of a cohort, by structure and for all structures together.

    Attributes:
        center: f64[S + 1]; NaN where no mask has a value.
        scale: f64[S + 1], the standard deviation below the center; NaN where fewer than `MIN_CASES` masks have a value.
    """

    center: np.ndarray
    scale: np.ndarray


def correct_agreement(odds: np.ndarray) -> Agreement:
    """Return center and scale of the agreement of the correct masks, while fewer than half of the masks are wrong.

    It starts from the shortest interval that holds more than half of the values: its middle and, scaled to a normal
    distribution, its half-length (least median of squares, with its correction for small samples: Rousseeuw and Leroy
    1987, Robust Regression and Outlier Detection, pages 165 and 202). Wrong masks agree less, so they lie below it.
    Values more than `_CUT` scales below are left out; the median of the rest, and 1.4826 times the median distance of
    its lower half, are the next center and scale, until they stay. The lower half alone, because agreement is skewed.

    Args:
        odds: f64[N, S + 1], the result of `log_odds`.
    """
    columns = [np.sort(column[~np.isnan(column)]) for column in odds.T]
    pairs = [
        _center_and_scale(values)
        if values.size >= MIN_CASES
        else (np.median(values) if values.size else np.nan, np.nan)
        for values in columns
    ]
    return Agreement(*map(np.array, zip(*pairs, strict=True)))


def _center_and_scale(values: np.ndarray) -> tuple[float, float]:
    """Return center and scale of sorted values."""
    half = values.size // 2 + 1
    lengths = values[half - 1 :] - values[: values.size - half + 1]
    first = lengths.size - 1 - int(lengths[::-1].argmin())  # the highest of the shortest
    center = (values[first] + values[first + half - 1]) / 2
    scale = _MAD_OF_NORMAL * (1 + 5 / (values.size - 1)) * lengths[first] / 2
    core = values[:0]
    for _ in range(_ROUNDS):
        previous, core = core, values[values >= center - _CUT * max(scale, _MIN_SCALE)]
        if core.size == previous.size:
            break
        center = np.median(core)
        # The lower half of the values, not the values below the median: where all but one are equal, that one value
        # would be the scale.
        scale = _MAD_OF_NORMAL * np.median(center - core[: core.size // 2])
    return float(center), max(float(scale), _MIN_SCALE)


def robust_z(odds: np.ndarray, agreement: Agreement, good_dice: float = GOOD_DICE) -> np.ndarray:
    """Return how far each agreement is below that of the cohort's correct masks, in their standard deviations.

    Args:
        odds: f64[N, S + 1], the result of `log_odds`.
        agreement: of the cohort.
        good_dice: the Dice from which the result is at most `Z_THRESHOLD`.

    Returns:
        f64[N, S + 1], negative above the center; NaN where `odds` is NaN, and for structures in fewer than `MIN_CASES`
        cases.
    """
    result: np.ndarray = (agreement.center - odds) / agreement.scale
    return np.where(dice(odds) >= good_dice, np.minimum(result, Z_THRESHOLD), result)


def without_expected(z: np.ndarray, odds: np.ndarray, expected: np.ndarray) -> np.ndarray:
    """Return `robust_z` of at most `Z_THRESHOLD` where the network expects such a Dice of its own mask.

    All structures together are as expected where one is and no other is beyond the threshold, or has a Dice but no z.

    Args:
        z: f64[N, S + 1], the result of `robust_z`.
        odds: f64[N, S + 1], the result of `log_odds`.
        expected: f64[N, S], `Pair.expected`.
    """
    is_expected = (dice(odds[:, :-1]) >= expected) & (expected >= LOWEST_EXPECTED)
    result = z.copy()
    result[:, :-1] = np.where(is_expected, np.minimum(z[:, :-1], Z_THRESHOLD), z[:, :-1])
    is_judged = is_expected | np.isnan(odds[:, :-1]) | (result[:, :-1] <= Z_THRESHOLD)
    none_left = is_expected.any(1) & is_judged.all(1)
    result[:, -1] = np.where(none_left, np.minimum(z[:, -1], Z_THRESHOLD), z[:, -1])
    return result


def max_z(z: np.ndarray) -> np.ndarray:
    """Return the largest `robust_z` of each case, f64[N]; 0 for a case without any."""
    return np.where(np.isnan(z).all(1), 0.0, np.nanmax(np.nan_to_num(z, nan=-np.inf), 1))


def is_beyond_network_errors(z: np.ndarray, odds: np.ndarray) -> bool:
    """Return whether a structure differs more than a network's error explains.

    Args:
        z: f64[S + 1] of one case, the result of `without_expected`.
        odds: f64[S + 1], the result of `log_odds`.
    """
    differs = z > Z_THRESHOLD
    return bool((differs & ((z > UNEXPLAINED_Z) | (dice(odds) < UNEXPLAINED_DICE))).any())
