"""Rank a cohort's masks by how far their agreement with a network's predictions lies below that of correct masks.

For each flagged mask it describes the mismatch: missing structures, and the correction that would make the mask fit.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
from scipy import fft
from scipy.optimize import linear_sum_assignment

from kneefair_jax import anatomy, metrics
from kneefair_jax.errors import InputError
from kneefair_jax.runtime.progress import track

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
# A correction explains a case if it closes this share of the distance to the agreement of the correct masks, or if it
# raises the log odds of Dice, of the structures that stand out and of all together, by this much (the odds of a wrong
# pixel fall by a third) to at least `UNEXPLAINED_DICE`. The network may agree less with this film than with the others.
_SHARE = 0.75
_GAIN = float(np.log(1.5))
# A correction is evidence beyond the agreement, so such masks are flagged up to this Dice of a structure, whatever Dice
# the network expects.
GOOD_EXPLAINED_DICE = 0.97
# A structure that differs, which no correction explains, is also what a network's error looks like. Such a mask is
# flagged where the structure is this far from the others or has a lower Dice than this: half a structure has 0.67.
UNEXPLAINED_Z, UNEXPLAINED_DICE = 10.0, 0.85
_MAX_SHIFT = 4  # shifts up to 1 / 4 of the sides are tried
THUMBNAIL_SIDE = 64  # pixels; masks are compared with other films at this size


class Pair(NamedTuple):
    """The cohort's mask and the network's prediction for one film, in the cohort's labels.

    Attributes:
        label: u8[H, W].
        prediction: u8[H, W].
        expected: f64[S], by structure the lowest Dice that the network expects of its prediction
            (`predict.quality.Interval.low`); NaN where it expects none. None for a network without calibration.
    """

    label: np.ndarray
    prediction: np.ndarray
    expected: np.ndarray | None = None

    def each(self, change: Callable[[np.ndarray], np.ndarray]) -> "Pair":
        """Return the pair with both masks changed."""
        return self._replace(label=change(self.label), prediction=change(self.prediction))


class LabelError(NamedTuple):
    """A case whose mask looks wrong.

    Attributes:
        case_id: the case.
        row: its row in the cohort.
        score: how far its agreement is below that of the correct masks, in their standard deviations.
        dice: Dice of mask and prediction, all structures together.
        reason: what looks wrong, in words.
    """

    case_id: str
    row: int
    score: float
    dice: float
    reason: str


class Mismatch(NamedTuple):
    """What looks wrong with a mask.

    Attributes:
        reason: in words.
        has_correction: whether a correction of the mask explains it.
        is_unexplained: whether structures merely differ, as they also do where the network is wrong.
    """

    reason: str
    has_correction: bool
    is_unexplained: bool


class Ranking(NamedTuple):
    """The cases of a cohort by how wrong their masks look.

    Attributes:
        scores: f64[N], `max_z` of all cases; at most `Z_THRESHOLD` of a mismatch that the network may have caused.
        median_dice: median Dice of all structures together, over the masks that agree as correct ones do. Where it is
            low, the network does not fit such films, and its ranking has little meaning.
        label_errors: the cases beyond the threshold, in descending order of score.
        unscored_structures: structures in too few cases for any of them to stand out.
    """

    scores: np.ndarray
    median_dice: float
    label_errors: tuple[LabelError, ...]
    unscored_structures: tuple[str, ...]


type PairReader = Callable[[Sequence[int]], Iterator[Pair]]


def rank(read: PairReader, case_ids: Sequence[str], structures: Sequence[str]) -> Ranking:
    """Rank the masks of a cohort.

    Args:
        read: rows -> their pairs in order; called for all rows, then again for the flagged ones.
        case_ids: case ids of all rows.
        structures: names of labels 1, 2, ...
    """
    counts, thumbnails, expected = [], [], []
    pairs = read(range(len(case_ids)))
    for pair in track(pairs, len(case_ids), "comparing masks with the network's", "masks"):
        counts.append(metrics.confusion_matrix(pair.label, pair.prediction, len(structures)))
        expected.append(np.full(len(structures), np.nan) if pair.expected is None else pair.expected)
        thumbnails.append(thumbnail(pair.prediction))
    odds = log_odds(np.stack(counts))
    agreement = correct_agreement(odds)
    z = without_expected(robust_z(odds, agreement), odds, np.stack(expected))
    z_explained = robust_z(odds, agreement, GOOD_EXPLAINED_DICE)
    scores, scores_explained = max_z(z), max_z(z_explained)
    candidates = np.argsort(-scores_explained, kind="stable")
    rows = [int(row) for row in candidates if scores_explained[row] > Z_THRESHOLD]
    predictions = np.stack(thumbnails)
    label_errors = []
    flagged_pairs = zip(rows, read(rows), strict=True)
    for row, pair in track(flagged_pairs, len(rows), "describing flagged masks", "masks"):
        film, gain = best_other_film(pair.label, row, predictions, len(structures))
        mismatch = describe_mismatch(
            pair.label,
            pair.prediction,
            structures,
            agreement.center,
            z_explained[row],
            (case_ids[film], gain),
        )
        if mismatch.has_correction:
            scores[row] = scores_explained[row]
        elif mismatch.is_unexplained and not is_beyond_network_errors(z[row], odds[row]):
            scores[row] = min(scores[row], Z_THRESHOLD)
        if scores[row] > Z_THRESHOLD:
            overall = float(dice(odds[row, -1]))
            label_errors.append(
                LabelError(str(case_ids[row]), row, float(scores[row]), overall, mismatch.reason)
            )
    label_errors.sort(key=lambda error: -error.score)
    cases = (~np.isnan(odds[:, :-1])).sum(0)
    # Pixels of an overlap class count as the bone in front (`compare`), so the class itself has no cases.
    unscored = tuple(
        name
        for name, count in zip(structures, cases, strict=True)
        if count < MIN_CASES and name not in anatomy.OVERLAPS
    )
    return Ranking(scores, float(dice(agreement.center[-1])), tuple(label_errors), unscored)


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


def describe_mismatch(
    label: np.ndarray,
    prediction: np.ndarray,
    structures: Sequence[str],
    center: np.ndarray,
    robust_z: np.ndarray,
    other_film: tuple[str, np.ndarray],
) -> Mismatch:
    """Describe what is probably wrong with a mask.

    The description names missing structures, the correction that fits best, and the worst structure that neither
    explains.

    Args:
        label: u8[H, W], the cohort's mask.
        prediction: u8[H, W], the network's.
        structures: names of labels 1, 2, ...
        center: f64[S + 1], of the cohort's `Agreement`.
        robust_z: f64[S + 1], of this case, as `ranking.robust_z` returns it.
        other_film: the other film whose prediction fits the mask best, and how much better it fits than the mask's own
            film, f64[S + 1].
    """
    counts = metrics.confusion_matrix(label, prediction, len(structures))
    odds = log_odds(counts)
    in_label, in_prediction = counts.sum(1)[1:] > 0, counts.sum(0)[1:] > 0
    findings = [f"{structures[int(s)]} missing" for s in np.flatnonzero(in_prediction & ~in_label)]
    gains = {
        text: odds_after - odds for text, odds_after in _corrections(label, prediction, structures, counts)
    }
    case_id, gain = other_film
    gains[f"fits another film: {case_id}"] = gain
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
    is_unexplained = not findings
    unexplained = in_both & ~(is_corrected & is_restored[:-1])
    z = np.where(unexplained & ~np.isnan(robust_z[:-1]), robust_z[:-1], -np.inf)
    worst = int(z.argmax())
    if z[worst] > Z_THRESHOLD or not findings:
        worst = worst if np.isfinite(z[worst]) else int(np.nanargmin(odds[:-1]))
        findings.append(f"{structures[worst]} differs, Dice {dice(odds[worst]):.2f}")
    return Mismatch("; ".join(findings), is_corrected, is_unexplained)


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
    overlap = ((predictions == mask) & (mask > 0)).sum(1)
    areas = (predictions > 0).sum(1) + (mask > 0).sum()
    fit = overlap / np.maximum(areas, 1)
    fit[row] = -1
    best = int(fit.argmax())
    odds_best, odds_own = (
        log_odds(metrics.confusion_matrix(mask, predictions[film], structures)) for film in (best, row)
    )
    return best, odds_best - odds_own


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
