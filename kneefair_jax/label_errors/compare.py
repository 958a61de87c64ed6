"""Pair the masks of a prepared cohort with a network's predictions."""

from collections.abc import Callable, Iterator, Sequence
from itertools import batched

import numpy as np

from kneefair_jax import anatomy, predict
from kneefair_jax.data.cohort_loader import Prepared
from kneefair_jax.errors import InputError
from kneefair_jax.label_errors.ranking import Pair, PairReader
from kneefair_jax.predict.prediction import halves_of, has_sides, join_halves, structures_of_both_knees

AUTO = "auto"
_SHIPPED = "phantom"
_SHIPPED_STRUCTURES = anatomy.SCHEMES["knee"]
BATCH = 8


type Compare = Callable[[Sequence[np.ndarray], Sequence[np.ndarray]], Iterator[Pair]]


def comparison(structures: tuple[str, ...], against: str) -> Compare:
    """Return a function that pairs masks, u8[H, W] each, with the network's masks of their films, u8[H, W, C] each.

    Args:
        structures: names of the masks' labels 1, 2, ...
        against: a checkpoint, as `predict.load` takes it; `auto` is the network that ships with the package.

    Raises:
        InputError: the checkpoint does not exist, or it does not segment these structures.
    """
    # As the network segments: the limits of label errors were measured so.
    predictor = predict.load(_SHIPPED if against == AUTO else against, batch_size=BATCH, raw=True)
    predictor.require_group(None)
    split, prediction_table, label_table = _translation(predictor.structures, structures)

    def compare(films: Sequence[np.ndarray], labels: Sequence[np.ndarray]) -> Iterator[Pair]:
        images = [half for film in films for half in halves_of(film)] if split else films
        # Includes blank films, whose masks are wrong, too.
        predictions = predictor.segment(images, warn=False)
        if split:
            predictions = [join_halves(*halves) for halves in batched(predictions, 2)]
        for label, prediction in zip(labels, predictions, strict=True):
            low = {name: dice.low for name, dice in prediction.predicted_dice.items()}
            yield Pair(
                label_table[anatomy.clear_void(label)],
                anatomy.clear_void(label, prediction_table[prediction.mask]),
                np.array([low.get(name, np.nan) for name in structures]),
            )

    return compare


def pair_reader(prepared: Prepared, against: str, log: Callable[[str], None]) -> PairReader | None:
    """Return a reader of pairs: a prepared cohort's masks and the network's predictions.

    Args:
        prepared: the cohort.
        against: as for `comparison`; "" for no comparison.
        log: receives one line where `auto` does not segment the cohort's structures.

    Returns:
        None where there is no comparison.

    Raises:
        InputError: as for `comparison`.
    """
    if not against:
        return None
    structures = prepared.cohort.structures
    if against == AUTO:
        try:
            _translation(_SHIPPED_STRUCTURES, structures)
        except InputError as error:
            remedy = "name the structures in data.structures, or another checkpoint in config.check.against"
            log(f"label errors: not compared; {error} ({remedy})")
            return None
    compare, kinds = comparison(structures, against), prepared.cohort.annotations
    if kinds and (note := kinds.note_not_compared()):
        log(f"label errors: {note}")

    def read(rows: Sequence[int]) -> Iterator[Pair]:
        for batch in batched(rows, BATCH):
            examples = [prepared.cases[row] for row in batch]
            pairs = compare([e["image"] for e in examples], [e["label"] for e in examples])
            for row, pair in zip(batch, pairs, strict=True):
                # What a mask does not show is background in both masks.
                yield pair.each(kinds.of_row(row).keep_distinct) if kinds else pair

    return read


def _translation(
    predicted: tuple[str, ...], structures: tuple[str, ...]
) -> tuple[bool, np.ndarray, np.ndarray]:
    """Return whether to split films into knees, and tables from predicted and from the masks' labels to those compared.

    A prediction shows the bone in front where two overlap, so the masks' overlap classes count as this bone too.
    """
    split = has_sides(structures) and not has_sides(predicted)
    names = structures_of_both_knees(predicted) if split else predicted
    compared = tuple(name for name in structures if name not in anatomy.OVERLAPS)
    labels = np.array([0, *(1 + structures.index(name) for name in compared)], np.uint8)
    return (
        split,
        labels[anatomy.translation(names, compared)],
        labels[anatomy.translation(structures, compared)],
    )
