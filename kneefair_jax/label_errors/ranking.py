"""A cohort's masks and the predictions of its films -> the masks to look at first."""

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

from kneefair_jax import anatomy
from kneefair_jax.label_errors import agreement, diagnosis
from kneefair_jax.runtime.progress import track


class Pair(NamedTuple):
    """The cohort's mask and the network's of one film, u8[H, W] each, in the cohort's labels."""

    label: np.ndarray
    prediction: np.ndarray


class Suspect(NamedTuple):
    """A case whose mask looks wrong.

    Attributes:
        case_id: of the case.
        row: of the cohort.
        score: how far below the cohort's median its agreement is, in robust standard deviations.
        dice: of all structures together, mask against prediction.
        reason: what looks wrong, in words.
    """

    case_id: str
    row: int
    score: float
    dice: float
    reason: str


class Ranking(NamedTuple):
    """What is said of a cohort.

    Attributes:
        scores: f64[N], of `agreement.worst`: all cases can be ranked by it.
        usual: Dice of all structures together, the cohort's median; where it is low, the network does not know such
            films, and its ranking says little.
        suspects: the cases beyond the threshold, the most suspicious first.
        unjudged: structures in too few cases for any to stand out.
    """

    scores: np.ndarray
    usual: float
    suspects: tuple[Suspect, ...]
    unjudged: tuple[str, ...]


Read = Callable[[Sequence[int]], Iterator[Pair]]


def rank(read: Read, case_ids: Sequence[str], structures: Sequence[str]) -> Ranking:
    """Ranks the masks of a cohort.

    Args:
        read: rows -> their pairs in order; called for all rows, then again for the suspicious ones.
        case_ids: of all rows.
        structures: names of labels 1, 2, ...
    """
    counts, thumbnails = [], []
    pairs = read(range(len(case_ids)))
    for pair in track(pairs, len(case_ids), "comparing masks with the network's", "masks"):
        counts.append(agreement.confusion(*pair, len(structures)))
        thumbnails.append(diagnosis.coarse(pair.prediction))
    odds = agreement.log_odds(np.stack(counts))
    distances = agreement.below(odds)
    scores = agreement.worst(distances)
    usual = agreement.medians(odds)
    rows = [int(row) for row in np.argsort(-scores, kind="stable") if scores[row] > agreement.FAR]
    predictions = np.stack(thumbnails)
    suspects = []
    of_rows = zip(rows, read(rows), strict=True)
    for row, pair in track(of_rows, len(rows), "describing suspicious masks", "masks"):
        other, gain = diagnosis.another(pair.label, row, predictions, len(structures))
        why = diagnosis.reason(*pair, structures, usual, distances[row], (case_ids[other], gain))
        dice = float(agreement.dice(odds[row, -1]))
        suspects.append(Suspect(str(case_ids[row]), row, float(scores[row]), dice, why))
    few = (~np.isnan(odds[:, :-1])).sum(0) < agreement.FEWEST
    # Pixels of an overlap class are judged as the bone in front (`compare`).
    unjudged = tuple(
        name
        for name, too_few in zip(structures, few, strict=True)
        if too_few and name not in anatomy.OVERLAPS
    )
    return Ranking(scores, float(agreement.dice(usual[-1])), tuple(suspects), unjudged)
