"""Rank a cohort's masks by how far their agreement with a network's predictions lies below that of correct masks.

A mask whose mismatch a correction explains is flagged sooner than one that merely differs (`diagnosis`).
"""

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

from kneefair_jax import anatomy, metrics
from kneefair_jax.label_errors import agreement, diagnosis
from kneefair_jax.label_errors.agreement import MIN_CASES, Z_THRESHOLD
from kneefair_jax.label_errors.diagnosis import OtherFilm
from kneefair_jax.runtime.progress import track


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
    counts, thumbnails, label_thumbnails, expected = [], [], [], []
    pairs = read(range(len(case_ids)))
    for pair in track(pairs, len(case_ids), "comparing masks with the network's", "masks"):
        counts.append(metrics.confusion_matrix(pair.label, pair.prediction, len(structures)))
        expected.append(np.full(len(structures), np.nan) if pair.expected is None else pair.expected)
        thumbnails.append(diagnosis.thumbnail(pair.prediction))
        label_thumbnails.append(diagnosis.thumbnail(pair.label))
    odds = agreement.log_odds(np.stack(counts))
    correct = agreement.correct_agreement(odds)
    z = agreement.without_expected(agreement.robust_z(odds, correct), odds, np.stack(expected))
    z_explained = agreement.robust_z(odds, correct, agreement.GOOD_EXPLAINED_DICE)
    scores, scores_explained = agreement.max_z(z), agreement.max_z(z_explained)
    candidates = np.argsort(-scores_explained, kind="stable")
    rows = [int(row) for row in candidates if scores_explained[row] > Z_THRESHOLD]
    predictions = np.stack(thumbnails)
    label_errors = []
    flagged_pairs = zip(rows, read(rows), strict=True)
    for row, pair in track(flagged_pairs, len(rows), "describing flagged masks", "masks"):
        film, gain = diagnosis.best_other_film(pair.label, row, predictions, len(structures))
        is_same_knee = diagnosis.is_same_knee(label_thumbnails[row], label_thumbnails[film])
        other_film = OtherFilm(str(case_ids[film]), gain, is_same_knee)
        mismatch = diagnosis.describe_mismatch(
            pair.label, pair.prediction, structures, correct.center, z_explained[row], other_film
        )
        if mismatch.has_correction:
            scores[row] = scores_explained[row]
        elif mismatch.is_unexplained and not agreement.is_beyond_network_errors(z[row], odds[row]):
            scores[row] = min(scores[row], Z_THRESHOLD)
        if scores[row] > Z_THRESHOLD:
            dice = float(agreement.dice(odds[row, -1]))
            label_errors.append(
                LabelError(str(case_ids[row]), row, float(scores[row]), dice, mismatch.reason)
            )
    label_errors.sort(key=lambda error: -error.score)
    cases = (~np.isnan(odds[:, :-1])).sum(0)
    # Pixels of an overlap class count as the bone in front (`compare`), so the class itself has no cases.
    unscored = tuple(
        name
        for name, count in zip(structures, cases, strict=True)
        if count < MIN_CASES and name not in anatomy.OVERLAPS
    )
    return Ranking(scores, float(agreement.dice(correct.center[-1])), tuple(label_errors), unscored)
