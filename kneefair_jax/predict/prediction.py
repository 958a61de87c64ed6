"""The segmentation of one image, and that of a film of both knees.

A film of both knees is cut at its midline, and the predictions of the halves are joined. The place in the image, or the
network's group, decides which knee it is; a header that states another one gets a note.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple

import numpy as np

from kneefair_jax import anatomy
from kneefair_jax.data.readers import dicom_header
from kneefair_jax.predict.films import Film
from kneefair_jax.predict.quality import SIDES, Interval


class Outline(NamedTuple):
    """The mask of a whole bone, parts behind other bones included.

    Attributes:
        mask: bool[H, W], where the bone's probability, the sum over its classes, is above 0.5.
        confidence: the mean of that probability over these pixels of the working grid; NaN where there are none.
    """

    mask: np.ndarray
    confidence: float


class Prediction(NamedTuple):
    """The segmentation of one image.

    Attributes:
        mask: u8[H, W], of the image's size.
        confidence: by structure, the mean probability of the predicted class over its pixels of the working grid; NaN
            if the structure is absent.
        warnings: reasons to look at the mask (`quality`).
        outlines: the whole bones, which overlap, by name; empty unless `load(outlines=True)`.
        predicted_dice: by structure and whole bone (`quality.predicted_dice`), NaN if it is absent; empty if the
            network was not calibrated.
        untrusted: structures and whole bones whose predicted Dice is not to be trusted, since a warning says that film
            or mask may not be of one knee from the front. A low predicted Dice alone is no such reason.
    """

    mask: np.ndarray
    confidence: dict[str, float]
    warnings: tuple[str, ...] = ()
    outlines: Mapping[str, Outline] = MappingProxyType({})
    predicted_dice: Mapping[str, Interval] = MappingProxyType({})
    untrusted: frozenset[str] = frozenset()

    @property
    def warning(self) -> str:
        """The warnings as one line; "" if there are none."""
        return "; ".join(self.warnings)


def halves_of(image: np.ndarray) -> list[np.ndarray]:
    """Cut u8[H, W, 1] at the darkest column of the middle fifth."""
    from kneefair_jax.data.oai import films  # imported late, since it loads pandas

    column = films.midline(image, np.zeros(image.shape[:2], np.uint8))
    return [image[:, :column], image[:, column:]]


def has_sides(structures: Sequence[str]) -> bool:
    """Return whether the structures are those of both knees, each with its side."""
    return any(name.split()[0] in SIDES for name in structures)


def structures_of_both_knees(structures: Sequence[str]) -> tuple[str, ...]:
    """Return the structures of both knees, in the order of a scheme of `anatomy.SCHEMES` that has the same ones."""
    names = tuple(f"{side} {name}" for name in structures for side in SIDES)
    return next((scheme for scheme in anatomy.SCHEMES.values() if set(scheme) == set(names)), names)


def join_halves(right: Prediction, left: Prediction) -> Prediction:
    """Join the predictions of the two halves; the labels are those of `structures_of_both_knees`."""
    structures = tuple(right.confidence)
    names = structures_of_both_knees(structures)
    masks: list[np.ndarray] = []
    confidence: dict[str, float] = {}
    outlines: dict[str, Outline] = {}
    predicted: dict[str, Interval] = {}
    for side, half in zip(SIDES, (right, left), strict=True):
        table = np.array([0, *(1 + names.index(f"{side} {name}") for name in structures)], np.uint8)
        masks.append(table[half.mask])
        confidence |= {f"{side} {name}": value for name, value in half.confidence.items()}
        predicted |= {f"{side} {name}": dice for name, dice in half.predicted_dice.items()}
        for name, outline in half.outlines.items():
            parts = [outline.mask if one is half else np.zeros_like(one.mask, bool) for one in (right, left)]
            outlines[f"{side} {name}"] = outline._replace(mask=np.concatenate(parts, axis=1))
    warnings = tuple(
        f"{side} knee: {warning}"
        for side, half in zip(SIDES, (right, left), strict=True)
        for warning in half.warnings
    )
    confidence = {name: confidence[name] for name in names}
    untrusted = frozenset(
        f"{side} {name}" for side, half in zip(SIDES, (right, left), strict=True) for name in half.untrusted
    )
    return Prediction(np.concatenate(masks, axis=1), confidence, warnings, outlines, predicted, untrusted)


def with_side_notes(film: Film, structures: Sequence[str], group: str | None) -> Film:
    """Return the film, with a note if its header states another knee than its mask or its group.

    Args:
        film: as read.
        structures: names of the labels of its mask.
        group: of its network, such as `sex=female,side=left`; None if the network serves all groups.
    """
    return film._replace(notes=(*film.notes, *filter(None, _side_notes(film, structures, group))))


def _side_notes(film: Film, structures: Sequence[str], group: str | None) -> Iterator[str]:
    side = dicom_header.SIDES.get(film.laterality)
    if side and any(name.startswith(other) for other in SIDES if other != side for name in structures):
        yield f"the header states the {side} knee alone, and the mask is of both; see --knees"
    for name, level in re.findall(r"(?:^|,)([^,=]+)=([^,]+)", group or ""):
        if name in dicom_header.SIDE_COLUMNS:
            yield dicom_header.contradiction(
                film.laterality, dicom_header.parse_side(level), f"its group ({name}={level})"
            )
