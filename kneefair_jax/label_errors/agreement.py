"""Agreement of a mask with a prediction, and how far it lies below the rest of a cohort."""

import numpy as np

# Robust z from which a mask is flagged, as for the other measures of `preflight.check`. Iglewicz and Hoaglin (1993) use
# 3.5, but a network's errors have a longer tail than a normal distribution.
Z_THRESHOLD = 5.0
# A structure with this Dice or more is never flagged. Of 200 exact phantom masks at 64 pixels and 200 at 128, three lie
# beyond `Z_THRESHOLD`, with Dice 0.959 to 0.978; this limit keeps them from being flagged. Of masks shifted by one
# pixel, 20 of 20 at 64 pixels and 11 of 20 at 128 are below it, and all of those shifted by two pixels.
GOOD_DICE = 0.95
_MAD_OF_NORMAL = 1.4826
# Cases that a structure needs: the lower half of five values is two, so one wrong mask would be half of its own scale.
MIN_CASES = 6
_MIN_SCALE = 0.1  # log odds: Dice 0.990 against 0.989; a smaller difference is not visible


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


def robust_z(odds: np.ndarray) -> np.ndarray:
    """Return how far each agreement is below the cohort's median, in robust standard deviations of the structure.

    The scale is 1.4826 times the median distance of the lower half from the median: a median absolute deviation of the
    lower side alone, because agreement is skewed. Median and scale are stable while fewer than a quarter of the masks
    are wrong. Where Dice is `GOOD_DICE` or more, the result is at most `Z_THRESHOLD`.

    Args:
        odds: f64[N, S + 1], the result of `log_odds`.

    Returns:
        f64[N, S + 1], negative above the median; NaN where `odds` is NaN, and for structures in fewer than `MIN_CASES`
        cases.
    """
    result = np.full(odds.shape, np.nan)
    for column in range(odds.shape[1]):
        values = odds[:, column][~np.isnan(odds[:, column])]
        if values.size < MIN_CASES:
            continue
        center = np.median(values)
        # The lower half of the values, not the values below the median: where all but one are equal, that one value
        # would be the scale.
        lower = center - np.sort(values)[: values.size // 2]
        scale = _MAD_OF_NORMAL * np.median(lower)
        result[:, column] = (center - odds[:, column]) / max(scale, _MIN_SCALE)
    return np.where(dice(odds) >= GOOD_DICE, np.minimum(result, Z_THRESHOLD), result)


def max_z(z: np.ndarray) -> np.ndarray:
    """Return the largest `robust_z` of each case, f64[N]; 0 for a case without any."""
    return np.where(np.isnan(z).all(1), 0.0, np.nanmax(np.nan_to_num(z, nan=-np.inf), 1))


def median_agreement(odds: np.ndarray) -> np.ndarray:
    """Return the median of each column of `log_odds`, f64[S + 1], ignoring NaN; NaN for a column without a value."""
    columns = (column[~np.isnan(column)] for column in odds.T)
    return np.array([np.median(values) if values.size else np.nan for values in columns])
