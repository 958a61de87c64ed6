"""How well a mask and a prediction agree, and how unusual that is in a cohort."""

import numpy as np

# Deviations from the median that are far, as for `check`'s other measures. Iglewicz and Hoaglin (1993) take 3.5, but a
# network's mistakes have a longer tail than a normal distribution.
FAR = 5.0
# Dice from which a structure is not called wrong, however well the other cases agree. Of 200 exact phantom masks at 64
# pixels and 200 at 128, it clears the three that lie beyond `FAR` (Dice 0.959 to 0.978). Of masks moved by a pixel, 20
# of 20 at 64 pixels and 11 of 20 at 128 are below it, and of those moved by two pixels all.
AGREES = 0.95
_MAD_OF_NORMAL = 1.4826
# Cases that a structure needs: of five, the lower half is two, and a wrong one is half of its own scale.
FEWEST = 6
_LEAST_SCALE = 0.1  # log odds: Dice 0.990 against 0.989; below it nobody sees a difference


def confusion(label: np.ndarray, prediction: np.ndarray, structures: int) -> np.ndarray:
    """Pixels by label (rows) and prediction (columns), i64[S + 1, S + 1]; both u8[H, W]."""
    classes = structures + 1
    joint = label.astype(np.int64).ravel() * classes + prediction.ravel()
    return np.bincount(joint, minlength=classes**2).reshape(classes, classes)


def log_odds(counts: np.ndarray) -> np.ndarray:
    """Log odds of Dice, of each structure and of all together.

    log(D / (1 - D)) with D = 2 I / (A + B): Dice crowds below 1, its log odds do not. Half a pixel is added to both
    sides, as for a logit of counts (Haldane 1956), so that no and full agreement stay finite.

    Args:
        counts: i64[..., S + 1, S + 1], of `confusion`.

    Returns:
        f64[..., S + 1], the last of all structures together; NaN where a structure is in neither mask.
    """
    both = np.diagonal(counts, axis1=-2, axis2=-1)[..., 1:]
    either = counts.sum(-1)[..., 1:] + counts.sum(-2)[..., 1:]
    both, either = (np.concatenate([x, x.sum(-1, keepdims=True)], axis=-1) for x in (both, either))
    odds = np.log((2 * both + 0.5) / (either - 2 * both + 0.5))
    return np.where(either > 0, odds, np.nan)


def dice(odds: np.ndarray) -> np.ndarray:
    """Dice of its log odds."""
    return 1 / (1 + np.exp(-odds))


def below(odds: np.ndarray) -> np.ndarray:
    """How far below the cohort's median each value is, in robust standard deviations of that structure.

    The scale is the lower half's median distance from the median, times 1.4826: a median absolute deviation of the
    lower side alone, as agreement is skewed. Neither moves far while fewer than a quarter of the masks are wrong. Where
    Dice is `AGREES` or more, the distance is at most `FAR`.

    Args:
        odds: f64[N, S + 1], of `log_odds`.

    Returns:
        f64[N, S + 1]; negative above the median, NaN where the agreement is, and of structures in fewer than 6 cases.
    """
    result = np.full(odds.shape, np.nan)
    for column in range(odds.shape[1]):
        known = odds[:, column][~np.isnan(odds[:, column])]
        if known.size < FEWEST:
            continue
        centre = np.median(known)
        # The lower half, not what is below the median: of values that are all alike, the odd one would be the scale.
        lower = centre - np.sort(known)[: known.size // 2]
        scale = _MAD_OF_NORMAL * np.median(lower)
        result[:, column] = (centre - odds[:, column]) / max(scale, _LEAST_SCALE)
    return np.where(dice(odds) >= AGREES, np.minimum(result, FAR), result)


def worst(distances: np.ndarray) -> np.ndarray:
    """f64[N]: the largest of `below` over a case's structures and all together; 0 where there is nothing at all."""
    return np.where(np.isnan(distances).all(1), 0.0, np.nanmax(np.nan_to_num(distances, nan=-np.inf), 1))


def medians(odds: np.ndarray) -> np.ndarray:
    """f64[S + 1]: of each column of `log_odds` what is known, or NaN."""
    return np.array(
        [np.median(known) if (known := column[~np.isnan(column)]).size else np.nan for column in odds.T]
    )
