"""Reference masks that look wrongly annotated: a network's masks of the same films do not fit them."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import batched
from pathlib import Path

import pandas as pd

from kneefair_jax.audit import label_map
from kneefair_jax.audit.cases import Cohort
from kneefair_jax.audit.scoring import Reading
from kneefair_jax.data import layouts, mask_files
from kneefair_jax.data.mask_files import MaskPath
from kneefair_jax.errors import InputError

_SHOWN = 5


def table(
    cohort: Cohort,
    truth: Mapping[str, MaskPath],
    images: Mapping[str, Path],
    reading: Reading,
    against: str,
    open_films: set[str],
) -> pd.DataFrame:
    """The suspicious ones among the masks that have a film, the most suspicious first.

    Args:
        cohort: the cases.
        truth: case id -> reference mask.
        images: case id -> radiograph.
        reading: of the masks.
        against: a checkpoint whose masks they are compared with; `auto` is the network that ships.
        open_films: gets the cases of which only one header, of film or truth, states an orientation.

    Returns:
        `case_id`, `score` (robust standard deviations below the median agreement), `dice` with the network's mask, and
        `reason`.

    Raises:
        InputError: there is no such checkpoint, it segments other structures, films are too few or of other sizes.
    """
    # They load the networks, which the rest of an audit does without.
    from kneefair_jax import label_errors
    from kneefair_jax.predict import films

    ids = [case for case in cohort.frame["case_id"] if case in images]
    if len(ids) < label_errors.FEWEST:
        raise InputError(
            f"--suspicious: {len(ids)} of {len(cohort.frame)} cases have a film; it takes {label_errors.FEWEST} with "
            "--images, among which one can stand out"
        )
    compare = label_errors.comparison(reading.structures, against)

    def read(rows: Sequence[int]) -> Iterator[label_errors.Pair]:
        for several in batched(rows, label_errors.BATCH):
            paths = [(images[ids[row]], truth[ids[row]]) for row in several]
            read_films = [films.read(film) for film, _ in paths]
            pictures = [film.displayed(film.image) for film in read_films]  # as the masks lie
            masks = [mask_files.read(mask, reading.truth) for _, mask in paths]
            for row, film, mask in zip(several, read_films, masks, strict=True):
                if layouts.relation(film.orientation, mask.orientation) == layouts.OPEN:
                    open_films.add(ids[row])
            values = [mask.values for mask in masks]
            labels = [
                label_map.mapped(one, reading.truth, mask)
                for one, (_, mask) in zip(values, paths, strict=True)
            ]
            for picture, label, (image, path) in zip(pictures, labels, paths, strict=True):
                if picture.shape[:2] != label.shape:
                    raise InputError(
                        f"{image}: {picture.shape[0]} x {picture.shape[1]} pixels, its mask {path} {label.shape[0]} x "
                        f"{label.shape[1]}; --suspicious compares them pixel by pixel: export both on one grid"
                    )
            for one, both in zip(values, compare(pictures, labels), strict=True):
                both.prediction[label_map.ignored(one, reading.truth)] = 0
                yield both

    found = label_errors.rank(read, ids, reading.structures).suspects
    columns = ["case_id", "score", "dice", "reason"]
    return pd.DataFrame([one._asdict() for one in found], columns=columns).round({"score": 2, "dice": 4})


def note(wrong: pd.DataFrame) -> str:
    """What of them is said among the notes."""
    if wrong.empty:
        return "no reference mask looks wrong by a network's masks of the same films"
    first = "; ".join(f"{one.case_id}: {one.reason}" for one in wrong.head(_SHOWN).itertuples())
    more = ", ..." if len(wrong) > _SHOWN else ""
    return (
        f"reference masks that look wrong by a network's masks of the same films, to be looked at: {len(wrong)} "
        f"({first}{more}), all in suspicious.csv"
    )
