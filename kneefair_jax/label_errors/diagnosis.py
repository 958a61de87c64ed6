"""Why a mask does not fit its film, in words: what would have to be done to it so that it does."""

from collections.abc import Iterator, Sequence

import numpy as np
from scipy import fft
from scipy.optimize import linear_sum_assignment

from kneefair_jax import anatomy
from kneefair_jax.errors import InputError
from kneefair_jax.label_errors import agreement

# A remedy explains a case if it closes this share of the way to the cohort's median agreement.
_SHARE = 0.75
_FARTHEST = 4  # shifts up to a quarter of the sides are tried
COARSE = 64  # side of the thumbnails in which masks are compared with other films


def reason(
    label: np.ndarray,
    prediction: np.ndarray,
    structures: Sequence[str],
    usual: np.ndarray,
    below: np.ndarray,
    another: tuple[str, np.ndarray],
) -> str:
    """What is probably wrong: what is missing, a remedy that fits, and the worst structure if that leaves it wrong.

    Args:
        label: u8[H, W], the cohort's mask.
        prediction: u8[H, W], the network's.
        structures: names of labels 1, 2, ...
        usual: f64[S + 1], the cohort's median agreement, log odds of Dice of each structure and of all together.
        below: f64[S + 1], how far the case is below it, of `agreement.below`.
        another: the other film whose prediction fits the mask best, and by how much better than its own film's,
            f64[S + 1].
    """
    counts = agreement.confusion(label, prediction, len(structures))
    odds = agreement.log_odds(counts)
    drawn, seen = counts.sum(1)[1:] > 0, counts.sum(0)[1:] > 0
    said = [f"{structures[int(s)]} missing" for s in np.flatnonzero(seen & ~drawn)]
    gains = {words: after - odds for words, after in _remedies(label, prediction, structures, counts)}
    name, gain = another
    gains[f"fits another film: {name}"] = gain
    best = max(gains, key=lambda words: gains[words][-1])
    enough = gains[best] >= _SHARE * (usual - odds)
    remedied = gains[best][-1] > 0 and enough[-1]
    if remedied:
        said.append(best)
    said += [f"{structures[int(s)]} where the network sees none" for s in np.flatnonzero(drawn & ~seen)]
    # Of those that both masks show, and that no remedy restores: of others it was said.
    unexplained = drawn & seen & ~(remedied & enough[:-1])
    distance = np.where(unexplained & ~np.isnan(below[:-1]), below[:-1], -np.inf)
    worst = int(distance.argmax())
    if distance[worst] > agreement.FAR or not said:
        worst = worst if np.isfinite(distance[worst]) else int(np.nanargmin(odds[:-1]))
        said.append(f"{structures[worst]} differs, Dice {agreement.dice(odds[worst]):.2f}")
    return "; ".join(said)


def coarse(mask: np.ndarray) -> np.ndarray:
    """u8[4096]: every so many pixels of a mask."""
    rows, columns = ((np.arange(COARSE) * 2 + 1) * side // (2 * COARSE) for side in mask.shape)
    return mask[np.ix_(rows, columns)].ravel()


def another(label: np.ndarray, row: int, predictions: np.ndarray, structures: int) -> tuple[int, np.ndarray]:
    """The other film whose prediction fits a mask best.

    Args:
        label: u8[H, W].
        row: of its own film.
        predictions: u8[N, 4096], `coarse` of all films.
        structures: S.

    Returns:
        Its row, and how much larger the log odds of Dice are than its own film's, f64[S + 1], as of `log_odds`.
    """
    mask = coarse(label)
    both = ((predictions == mask) & (mask > 0)).sum(1)
    either = (predictions > 0).sum(1) + (mask > 0).sum()
    fit = both / np.maximum(either, 1)
    fit[row] = -1
    best = int(fit.argmax())
    theirs, own = (
        agreement.log_odds(agreement.confusion(mask, predictions[film], structures)) for film in (best, row)
    )
    return best, theirs - own


def _remedies(
    label: np.ndarray, prediction: np.ndarray, structures: Sequence[str], counts: np.ndarray
) -> Iterator[tuple[str, np.ndarray]]:
    """What could be done to the mask, and the agreement after it, f64[S + 1]."""

    def after(mask: np.ndarray, film: np.ndarray) -> np.ndarray:
        return agreement.log_odds(agreement.confusion(mask, film, len(structures)))

    _, column = linear_sum_assignment(counts[1:, 1:], maximize=True)
    table = np.array([0, *(1 + column)], np.uint8)
    moved = [s for s, name in enumerate(table[1:]) if name != s + 1 and counts[s + 1, 1:].any()]
    if moved:
        yield _exchanged(table, moved, structures), after(table[label], prediction)
    yield "fits better mirrored left to right", after(label[:, ::-1], prediction)
    yield "fits better upside down", after(label[::-1], prediction)
    down, right = _best_shift(label, prediction, len(structures))
    if down or right:
        here, there = _overlap(label, -down, -right), _overlap(prediction, down, right)
        yield f"fits better when moved {_moved(down, right)}", after(here, there)


def _exchanged(table: np.ndarray, moved: Sequence[int], structures: Sequence[str]) -> str:
    try:
        sides = anatomy.flip_table(tuple(structures))
    except InputError:
        sides = np.arange(len(table))
    if all(table[s + 1] == sides[s + 1] for s in moved):
        return "left and right look exchanged"
    return f"the labels of {' and '.join(structures[s] for s in moved)} look exchanged"


def _best_shift(label: np.ndarray, prediction: np.ndarray, structures: int) -> tuple[int, int]:
    """By how many rows and columns to move the mask so that most pixels agree: cross-correlation by FFT."""
    height, width = label.shape
    size = [fft.next_fast_len(2 * side, real=True) for side in label.shape]
    value = np.arange(1, structures + 1)[:, None, None]
    theirs, ours = (fft.rfft2((mask == value).astype(np.float32), size) for mask in (prediction, label))
    overlap = fft.irfft2((theirs * ours.conj()).sum(0), size)
    down = np.arange(-(height // _FARTHEST), height // _FARTHEST + 1)
    right = np.arange(-(width // _FARTHEST), width // _FARTHEST + 1)
    place = overlap[np.ix_(down, right)].argmax()
    row, column = np.unravel_index(place, (len(down), len(right)))
    return int(down[row]), int(right[column])


def _overlap(mask: np.ndarray, down: int, right: int) -> np.ndarray:
    """The part of a picture that is still on it after it was moved back by so much."""
    height, width = mask.shape
    return mask[max(down, 0) : height + min(down, 0), max(right, 0) : width + min(right, 0)]


def _moved(down: int, right: int) -> str:
    ways = ((down, "down", "up"), (right, "right", "left"))
    return " and ".join(f"{abs(by)} pixels {one if by > 0 else other}" for by, one, other in ways if by)
