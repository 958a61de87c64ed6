"""The segmentation of one image: the mask with its confidence, the rules of anatomy that flag it, and both knees.

The rules flag masks which cannot show one knee on a postero-anterior radiograph. The network's confidence does not
detect them: for an upside-down knee, or two knees in one picture, it can exceed 0.95. `benchmarks/plausibility.py`
tests the limits on films that did not determine them.

A film of both knees is cut at its midline, and the predictions of the halves are joined. The place in the image, or the
network's group, decides which knee it is; a header that states another one gets a note.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple

import numpy as np
from scipy import ndimage

from kneefair_jax import anatomy
from kneefair_jax.data.readers import dicom_header
from kneefair_jax.predict.films import Film

# Mean confidences of the shipped weights: 32 clinical phantoms have 0.987 or more, and 95 % of 32 phantoms as varied as
# in training 0.945 or more; 48 chest films (JSRT) and 32 images of noise, white and smooth, have at most 0.935. For
# other weights the limit is a guess.
MIN_CONFIDENCE = 0.94
SIDES = ("right", "left")  # of the patient, from image left to image right

# The least share of a knee's bone. In the predictions of the shipped network for 160 clinical phantoms (128, 192 and
# 256 pixels a side), the smallest shares are 0.26, 0.43, 0.35, 0.054 and 0.13; each limit is about half of those, as a
# film may be cropped. In 64 phantoms upside down, no fibula has more than 0.026, so they are flagged.
LEAST = {"femur": 0.13, "whole femur": 0.22, "tibia": 0.17, "fibula": 0.03, "patella": 0.06}
# The largest share of a structure outside its largest piece. Each bone of a knee is one piece, except that the patella
# may cut off a part of the femur: both count as one. In those 160 masks at most 0.009 lies outside; in 96 pictures of
# two knees side by side, 64 of them a knee and its mirror image, at least 0.41 of the femur.
PIECE = 0.1
_JOINED = {"femur": ("femur", "patella")}


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
        mean_confidence: the same over all structures; NaN if all are absent.
        quality_warnings: why the mask is implausible, of `quality_warnings`.
        outlines: the whole bones, which overlap, by name; empty unless `load(outlines=True)`.
    """

    mask: np.ndarray
    confidence: dict[str, float]
    mean_confidence: float
    quality_warnings: tuple[str, ...] = ()
    outlines: Mapping[str, Outline] = MappingProxyType({})

    @property
    def warning(self) -> str:
        """The reasons to doubt a mask: nothing found, mean confidence below 0.94, implausible anatomy; or ""."""
        warnings = list(self.quality_warnings)
        if np.isnan(self.mean_confidence):
            warnings.insert(0, "nothing found")
        elif self.mean_confidence < MIN_CONFIDENCE:
            confidence = f"confidence {self.mean_confidence:.3f} is below {MIN_CONFIDENCE}"
            warnings.insert(0, f"unlike the training images: {confidence}")
        return "; ".join(warnings)


def quality_warnings(label: np.ndarray, structures: Sequence[str]) -> tuple[str, ...]:
    """Return why a mask is implausible; empty if it is plausible, or holds no bone at all.

    Args:
        label: u8[h, w]; its pixels need not be square.
        structures: names of labels 1, 2, ... The bones of each side are one knee. A structure that is no bone of the
            knee gets a warning only if it is absent.
    """
    masks = {name: label == value for value, name in enumerate(structures, start=1)}
    if not label.any():
        return ()
    if not all(name.partition(" ")[0] in SIDES and name.partition(" ")[2] in LEAST for name in structures):
        return tuple(_warnings_of_knee(masks))
    warnings: list[str] = []
    for side in SIDES:
        bones = {name.removeprefix(f"{side} "): mask for name, mask in masks.items() if name.startswith(side)}
        warnings += [f"{side} knee: {warning}" for warning in _warnings_of_knee(bones)]
    return tuple(warnings)


def _warnings_of_knee(masks: dict[str, np.ndarray]) -> list[str]:
    sizes = {name: int(mask.sum()) for name, mask in masks.items()}
    bone = sum(sizes.values())
    if not bone:
        return ["nothing found"]
    warnings = []
    if absent := [name for name, size in sizes.items() if not size]:
        warnings.append(f"no {', no '.join(absent)} found: upside down or cut off?")
    if small := [name for name, size in sizes.items() if 0 < size < LEAST.get(name, 0) * bone]:
        shares = (f"{name} ({100 * sizes[name] / bone:.1f} % of the bone)" for name in small)
        warnings.append(f"too little {', '.join(shares)}: upside down or cut off?")
    if broken := [name for name in masks if name in LEAST and _share_outside_piece(masks, name) > PIECE]:
        warnings.append(f"{', '.join(broken)} in several pieces: two knees? see --knees")
    femur = next((name for name in ("femur", "whole femur") if sizes.get(name)), None)
    if femur and sizes.get("tibia") and _mean_row(masks["tibia"]) <= _mean_row(masks[femur]):
        warnings.append(f"the tibia is not below the {femur}: upside down or on its side?")
    return warnings


def _share_outside_piece(masks: dict[str, np.ndarray], name: str) -> float:
    """Return the share of a structure's pixels outside its largest connected piece."""
    union = np.logical_or.reduce([masks[part] for part in _JOINED.get(name, (name,)) if part in masks])
    pieces = np.bincount(ndimage.label(union)[0].ravel())[1:]
    return 1 - pieces.max() / pieces.sum() if pieces.size else 0.0


def _mean_row(mask: np.ndarray) -> float:
    return float(np.nonzero(mask)[0].mean())


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
    for side, half in zip(SIDES, (right, left), strict=True):
        table = np.array([0, *(1 + names.index(f"{side} {name}") for name in structures)], np.uint8)
        masks.append(table[half.mask])
        confidence |= {f"{side} {name}": value for name, value in half.confidence.items()}
        for name, outline in half.outlines.items():
            parts = [outline.mask if one is half else np.zeros_like(one.mask, bool) for one in (right, left)]
            outlines[f"{side} {name}"] = outline._replace(mask=np.concatenate(parts, axis=1))
    # The worse half decides; a half without any structure is NaN, which `np.min` keeps.
    mean_confidence = float(np.min([right.mean_confidence, left.mean_confidence]))
    warnings = tuple(
        f"{side} knee: {warning}"
        for side, half in zip(SIDES, (right, left), strict=True)
        for warning in half.quality_warnings
    )
    confidence = {name: confidence[name] for name in names}
    return Prediction(np.concatenate(masks, axis=1), confidence, mean_confidence, warnings, outlines)


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
