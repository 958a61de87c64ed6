"""A film of both knees: cut at the midline, each half segmented as one knee, and put together again.

Which knee a film shows is by its place in the image, and by the run; a header that states another one gets a note.
"""

import re
from collections.abc import Iterator, Sequence

import numpy as np

from kneefair_jax import anatomy
from kneefair_jax.data.readers import laterality
from kneefair_jax.predict.films import Film
from kneefair_jax.predict.plausibility import SIDES
from kneefair_jax.predict.predictor import Outline, Prediction


def halves(image: np.ndarray) -> list[np.ndarray]:
    """u8[H, W, 1] -> its two parts, cut at the darkest column of the middle fifth."""
    from kneefair_jax.data.oai import films  # which loads pandas

    column = films.midline(image, np.zeros(image.shape[:2], np.uint8))
    return [image[:, :column], image[:, column:]]


def sided(structures: Sequence[str]) -> tuple[str, ...]:
    """The structures of both knees; in the order of the scheme `knees` where they are its."""
    names = tuple(f"{side} {name}" for name in structures for side in SIDES)
    return next((scheme for scheme in anatomy.SCHEMES.values() if set(scheme) == set(names)), names)


def joined(right: Prediction, left: Prediction) -> Prediction:
    """The predictions of the two halves as one of the film, its labels those of `sided`."""
    structures = tuple(right.confidence)
    names = sided(structures)
    masks: list[np.ndarray] = []
    confidence: dict[str, float] = {}
    outlines: dict[str, Outline] = {}
    for side, half in zip(SIDES, (right, left), strict=True):
        table = np.array([0, *(1 + names.index(f"{side} {name}") for name in structures)], np.uint8)
        masks.append(table[half.mask])
        confidence |= {f"{side} {name}": value for name, value in half.confidence.items()}
        for name, outline in half.outlines.items():
            parts = [outline.mask if one is half else np.zeros_like(one.mask, bool) for one in (right, left)]
            outlines[f"{side} {name}"] = outline._replace(mask=np.concatenate(parts, axis=1))
    # The worse half decides; one in which nothing is found is NaN, and NaN is what `min` of NumPy keeps.
    overall = float(np.min([right.overall, left.overall]))
    doubts = (
        f"{side} knee: {doubt}"
        for side, half in zip(SIDES, (right, left), strict=True)
        for doubt in half.doubts
    )
    ordered = {name: confidence[name] for name in names}
    return Prediction(np.concatenate(masks, axis=1), ordered, overall, tuple(doubts), outlines)


def with_side_notes(film: Film, structures: Sequence[str], group: str | None) -> Film:
    """Return the film with a note where its header states another knee than its mask or its group has.

    Args:
        film: as read.
        structures: names of the labels of its mask.
        group: that its network is of, such as `sex=female,side=left`; None where networks are for all films.
    """
    return film._replace(notes=(*film.notes, *filter(None, _side_notes(film, structures, group))))


def _side_notes(film: Film, structures: Sequence[str], group: str | None) -> Iterator[str]:
    side = laterality.SIDES.get(film.laterality)
    if side and any(name.startswith(other) for other in SIDES if other != side for name in structures):
        yield f"the header states the {side} knee alone, and the mask is of both; see --knees"
    for name, level in re.findall(r"(?:^|,)([^,=]+)=([^,]+)", group or ""):
        if name in laterality.COLUMNS:
            yield laterality.contradiction(
                film.laterality, laterality.parse(level), f"its group ({name}={level})"
            )
