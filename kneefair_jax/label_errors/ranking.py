"""Rank a cohort's masks by how far their agreement with a network's predictions lies below the rest."""

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

from kneefair_jax import anatomy, metrics
from kneefair_jax.label_errors import agreement, diagnosis
from kneefair_jax.runtime.progress import track


class Pair(NamedTuple):
    """The cohort's mask and the network's prediction for one film, u8[H, W] each, in the cohort's labels."""

    label: np.ndarray
    prediction: np.ndarray


class LabelError(NamedTuple):
    """A case whose mask looks wrong.

    Attributes:
        case_id: the case.
        row: its row in the cohort.
        score: how far its agreement is below the cohort's median, in robust standard deviations.
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
        scores: f64[N], `agreement.max_z` of all cases.
        median_dice: median over the cohort of Dice of all structures together. Where it is low, the network does not
            fit such films, and its ranking has little meaning.
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
    counts, thumbnails = [], []
    pairs = read(range(len(case_ids)))
    for pair in track(pairs, len(case_ids), "comparing masks with the network's", "masks"):
        counts.append(metrics.confusion_matrix(*pair, len(structures)))
        thumbnails.append(diagnosis.thumbnail(pair.prediction))
    odds = agreement.log_odds(np.stack(counts))
    z = agreement.robust_z(odds)
    scores = agreement.max_z(z)
    median = agreement.median_agreement(odds)
    flagged = np.argsort(-scores, kind="stable")
    rows = [int(row) for row in flagged if scores[row] > agreement.Z_THRESHOLD]
    predictions = np.stack(thumbnails)
    label_errors = []
    flagged_pairs = zip(rows, read(rows), strict=True)
    for row, pair in track(flagged_pairs, len(rows), "describing suspicious masks", "masks"):
        film, gain = diagnosis.best_other_film(pair.label, row, predictions, len(structures))
        reason = diagnosis.reason(*pair, structures, median, z[row], (case_ids[film], gain))
        dice = float(agreement.dice(odds[row, -1]))
        label_errors.append(LabelError(str(case_ids[row]), row, float(scores[row]), dice, reason))
    cases = (~np.isnan(odds[:, :-1])).sum(0)
    # Pixels of an overlap class count as the bone in front (`compare`), so the class itself has no cases.
    unscored = tuple(
        name
        for name, count in zip(structures, cases, strict=True)
        if count < agreement.MIN_CASES and name not in anatomy.OVERLAPS
    )
    return Ranking(scores, float(agreement.dice(median[-1])), tuple(label_errors), unscored)
