"""The pairs of a prepared cohort's masks and a network's."""

from collections.abc import Callable, Iterator, Sequence
from itertools import batched

import numpy as np

from kneefair_jax import anatomy, predict
from kneefair_jax.data.cohort_loader import Prepared
from kneefair_jax.errors import InputError
from kneefair_jax.label_errors.ranking import Pair, Read
from kneefair_jax.predict import bilateral

AUTO = "auto"
_SHIPPED = "phantom"
_SHIPS = anatomy.SCHEMES["knee"]  # its structures
BATCH = 8


type Compare = Callable[[Sequence[np.ndarray], Sequence[np.ndarray]], Iterator[Pair]]


def comparison(structures: tuple[str, ...], against: str) -> Compare:
    """What pairs films, u8[H, W, C] each, and their masks, u8[H, W], with the network's masks of these films.

    Args:
        structures: names of the masks' labels 1, 2, ...
        against: a checkpoint, as `predict.load` takes it; `auto` is the network that ships.

    Raises:
        InputError: there is no such checkpoint, or it does not segment these structures.
    """
    predictor = predict.load(_SHIPPED if against == AUTO else against, batch_size=BATCH)
    predictor.require_group(None)
    both, of_prediction, of_label = _translation(predictor.structures, structures)

    def compare(films: Sequence[np.ndarray], labels: Sequence[np.ndarray]) -> Iterator[Pair]:
        parts = [half for film in films for half in bilateral.halves(film)] if both else films
        found = predictor.segment(parts)  # a blank film has a mask that is wrong, too
        if both:
            found = [bilateral.join_halves(*two) for two in batched(found, 2)]
        for label, prediction in zip(labels, found, strict=True):
            yield Pair(
                of_label[anatomy.clear_void(label)],
                anatomy.clear_void(label, of_prediction[prediction.mask]),
            )

    return compare


def pairs(prepared: Prepared, against: str, say: Callable[[str], None]) -> Read | None:
    """A reader of a prepared cohort's masks and the network's.

    Args:
        prepared: the cohort.
        against: as for `comparison`; "" is none.
        say: gets a line, where `auto` cannot be compared.

    Returns:
        None if nothing is to be compared.

    Raises:
        InputError: as `comparison`.
    """
    if not against:
        return None
    structures = prepared.cohort.structures
    if against == AUTO:
        try:
            _translation(_SHIPS, structures)
        except InputError as error:
            remedy = "name the structures in data.structures, or another checkpoint in config.check.against"
            say(f"suspicious masks: not looked for; {error} ({remedy})")
            return None
    compare = comparison(structures, against)

    def read(rows: Sequence[int]) -> Iterator[Pair]:
        for several in batched(rows, BATCH):
            examples = [prepared.cases[row] for row in several]
            yield from compare([e["image"] for e in examples], [e["label"] for e in examples])

    return read


def _translation(
    predicted: tuple[str, ...], structures: tuple[str, ...]
) -> tuple[bool, np.ndarray, np.ndarray]:
    """Return whether films show both knees, and the label to compare of each predicted label and of each of the masks'.

    A prediction shows the bone in front where two overlap, so the masks' overlap classes count as this bone too.
    """
    sides = any(name.split()[0] in bilateral.SIDES for name in structures)
    both = sides and not any(name.split()[0] in bilateral.SIDES for name in predicted)
    names = bilateral.structures_of_both_knees(predicted) if both else predicted
    compared = tuple(name for name in structures if name not in anatomy.OVERLAPS)
    own = np.array([0, *(1 + structures.index(name) for name in compared)], np.uint8)
    return both, own[anatomy.translation(names, compared)], own[anatomy.translation(structures, compared)]
