"""The label map of a folder cohort: values in mask files -> labels 1, 2, ... of structures, background and void."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from kneefair_jax import anatomy
from kneefair_jax.data import mask_checks, readers
from kneefair_jax.data.mask_files import MaskPath, Values
from kneefair_jax.errors import InputError

AUTO = "auto"
# Masks of 0 and 255 would otherwise pass for 255 structures.
MAX_FOUND = 32
# More unknown values than this are not one forgotten label.
_MANY_UNKNOWN = 3
_LARGEST = 65_535
_IGNORE = "ignore"


class LabelMap(NamedTuple):
    """What the values of a cohort's mask files mean; 0 is background.

    Attributes:
        values: structure -> its value, in the order of the labels 1, 2, ...
        ignore: the value of void pixels; -1 for none.
        prefix: of the settings, `data.` or `data.external_`, for messages.
    """

    values: dict[str, int]
    ignore: int = -1
    prefix: str = "data."

    @property
    def structures(self) -> tuple[str, ...]:
        """The names of labels 1, 2, ..."""
        return tuple(self.values)

    @property
    def settings(self) -> dict[str, object]:
        """What determines stored arrays beside the names; nothing where values are 1, 2, ... and none is void."""
        numbers = list(self.values.values())
        own: dict[str, object] = {} if numbers == list(range(1, len(numbers) + 1)) else {"values": numbers}
        return own if self.ignore < 0 else own | {"ignore_label": self.ignore}

    @property
    def of_files(self) -> Values:
        """As `mask_files.read` takes it."""
        void = {} if self.ignore < 0 else {_IGNORE: (self.ignore,)}
        return {name: (value,) for name, value in self.values.items()} | void


def parse(text: str, ignore: int, prefix: str) -> LabelMap:
    """The label map of `data.structures` and `data.ignore_label`.

    Args:
        text: a scheme of `anatomy.SCHEMES`, names of labels 1, 2, ... by comma, or names with values, `femur=255`.
        ignore: the value of void pixels; -1 for none.
        prefix: of the settings, `data.` or `data.external_`.

    Raises:
        InputError: the text is not of this form, or a value is given twice.
    """
    if "=" not in text:
        return checked(numbered(anatomy.parse(text), ignore, prefix))
    words = [word.rpartition("=") for word in text.split(",")]
    numbers = [number.strip() for _, _, number in words]
    is_number = [number.isdecimal() and 0 < int(number) <= _LARGEST for number in numbers]
    structures = anatomy.parse(",".join(name for name, _, _ in words)) if all(is_number) else ()
    if len(structures) != len(numbers):  # the name of a scheme stands for several
        raise InputError(
            f"config.{prefix}structures={text!r}: write each structure with its value in the masks, 1 to {_LARGEST}, "
            "as in femur=1,tibia=255, or all of them without, as in femur,tibia"
        )
    return checked(LabelMap(dict(zip(structures, map(int, numbers), strict=True)), ignore, prefix))


def numbered(structures: Sequence[str], ignore: int, prefix: str) -> LabelMap:
    """Structures whose values are 1, 2, ..."""
    return LabelMap({name: value for value, name in enumerate(structures, start=1)}, ignore, prefix)


def checked(labels: LabelMap) -> LabelMap:
    """The same.

    Raises:
        InputError: a value has two meanings, or the void value is no positive integer.
    """
    names: dict[int, str] = {}
    for name, value in labels.values.items():
        if value in names:
            raise InputError(
                f"config.{labels.prefix}structures: value {value} is both {names[value]!r} and {name!r}; give each "
                "value once"
            )
        names[value] = name
    if labels.ignore in names:
        raise InputError(
            f"config.{labels.prefix}ignore_label={labels.ignore} is the value of {names[labels.ignore]!r}; give the "
            "value of void pixels, or -1 for none"
        )
    if labels.ignore != -1 and not 0 < labels.ignore <= _LARGEST:
        raise InputError(
            f"config.{labels.prefix}ignore_label={labels.ignore}: give the value of void pixels, 1 to {_LARGEST} "
            "(0 is background), or -1 for none"
        )
    return labels


def found(highest: int, ignore: int, prefix: str, path: Path) -> LabelMap:
    """`structure 1`, ... up to the highest value in the masks.

    Args:
        highest: value in the masks other than void.
        ignore: the value of void pixels; -1 for none.
        prefix: of the settings, `data.` or `data.external_`.
        path: the cohort's table, for the message.

    Raises:
        InputError: there is none, or one that is unlikely to be the number of a structure.
    """
    if not 1 <= highest <= MAX_FOUND:
        remedy = "number the structures 1, 2, ..., or name them with their values"
        if highest > MAX_FOUND:
            remedy += (
                f", as in --config.{prefix}structures=femur={highest}; where nobody annotated these pixels, give "
                f"--config.{prefix}ignore_label={highest}"
            )
        raise InputError(f"{path}: the highest label in the masks is {highest}; {remedy}")
    return checked(numbered([f"structure {label}" for label in range(1, highest + 1)], ignore, prefix))


def mapped(mask: np.ndarray, labels: LabelMap, path: MaskPath) -> np.ndarray:
    """Values as in the file, integers [H, W] -> u8[H, W]: 0 background, i + 1 the i-th structure, `anatomy.VOID`.

    Raises:
        InputError: the mask holds a value that the label map does not name.
    """
    low, high = int(mask.min()), int(mask.max())
    if not labels.settings and 0 <= low <= high <= len(labels.values):
        return mask.astype(np.uint8)  # the values are the labels, as mostly
    number = {0: 0} | {value: label for label, value in enumerate(labels.values.values(), start=1)}
    if labels.ignore > 0:
        number[labels.ignore] = anatomy.VOID
    is_small = low >= 0 and high <= _LARGEST
    present = (np.flatnonzero(np.bincount(mask.ravel())) if is_small else np.unique(mask)).tolist()
    if unknown := [value for value in present if value not in number]:
        raise InputError(f"{path}: {_unknown(mask, present, unknown, labels)}")
    table = np.zeros(high + 1, np.uint8)
    table[present] = [number[value] for value in present]
    return table[mask]


def resized(label: np.ndarray, size: tuple[int, int], labels: LabelMap, path: MaskPath) -> np.ndarray:
    """Labels of `mapped` on the working grid: each pixel takes the label, void included, that covers most of it.

    Raises:
        InputError: nothing but void pixels is left.
    """
    classes = len(labels.values) + 1
    if labels.ignore < 0:
        return readers.resize_label(label, size, classes)
    # Void is the last class while labels are resized: `resize_label` takes labels without gaps.
    small = readers.resize_label(np.where(label == anatomy.VOID, classes, label), size, classes + 1)
    if (small == classes).all():
        raise InputError(
            f"{path}: all pixels are void ({labels.prefix}ignore_label={labels.ignore}); remove the row from the table"
        )
    return np.where(small == classes, anatomy.VOID, small).astype(np.uint8)


def _unknown(mask: np.ndarray, present: list[int], unknown: list[int], labels: LabelMap) -> str:
    """What is wrong with values that the label map does not name, and what to do."""
    value = unknown[-1]
    scheme = ", ".join(f"{name}={number}" for name, number in labels.values.items())
    ignore = f"--config.{labels.prefix}ignore_label={value}"
    if mask_checks.contour_bands(mask, [*labels.values.values()], unknown):
        return (
            f"label {value} is a thin band along the contours, such as a void label, and no structure of {scheme}; "
            f"leave these pixels out of training and scores with {ignore}"
        )
    if len(unknown) > _MANY_UNKNOWN:
        return (
            f"{len(unknown)} labels name no structure of {scheme}, as interpolation and gray scales leave them; "
            f"{mask_checks.EXPORT_LABELS}"
        )
    if len(unknown) == 1 and set(present) <= {0, value}:
        return (
            f"holds {' and '.join(map(str, present))} alone, and label {value} names no structure of {scheme}; if it "
            f"is one, map it with --config.{labels.prefix}structures={labels.structures[0]}={value}; where nobody "
            f"annotated these pixels, give {ignore}"
        )
    return (
        f"label {value} names no structure of {scheme}; where nobody annotated these pixels, give {ignore}; "
        f"otherwise map it with --config.{labels.prefix}structures={scheme.replace(' ', '')},NAME={value}"
    )
