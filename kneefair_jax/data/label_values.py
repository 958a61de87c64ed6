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
# A higher value, such as the 255 of binary masks, is not the number of a structure.
MAX_UNNAMED = 32
# More values than this outside the label map are not single labels that the user omitted.
_MAX_OMITTED = 3
_LARGEST = 65_535
_IGNORE = "ignore"


class LabelMap(NamedTuple):
    """The meaning of the values in a cohort's mask files; 0 is background.

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
        """Return the names of labels 1, 2, ..."""
        return tuple(self.values)

    @property
    def settings(self) -> dict[str, object]:
        """Return what determines stored arrays beside the names; {} if the values are 1, 2, ... and none is void."""
        numbers = list(self.values.values())
        is_numbered = numbers == list(range(1, len(numbers) + 1))
        settings: dict[str, object] = {} if is_numbered else {"values": numbers}
        return settings if self.ignore < 0 else settings | {"ignore_label": self.ignore}

    @property
    def mask_values(self) -> Values:
        """Return the values for `mask_files.read`."""
        void = {} if self.ignore < 0 else {_IGNORE: (self.ignore,)}
        return {name: (value,) for name, value in self.values.items()} | void


def parse(text: str, ignore: int, prefix: str) -> LabelMap:
    """Return the label map of `data.structures` and `data.ignore_label`.

    Args:
        text: a scheme of `anatomy.SCHEMES`, names of labels 1, 2, ... by comma, or names with values, `femur=255`.
        ignore: the value of void pixels; -1 for none.
        prefix: of the settings, `data.` or `data.external_`.

    Raises:
        InputError: the text has another form, or repeats a value.
    """
    if "=" not in text:
        return checked(numbered(anatomy.parse(text), ignore, prefix))
    words = [word.rpartition("=") for word in text.split(",")]
    numbers = [number.strip() for _, _, number in words]
    is_number = [number.isdecimal() and 0 < int(number) <= _LARGEST for number in numbers]
    structures = anatomy.parse(",".join(name for name, _, _ in words)) if all(is_number) else ()
    if len(structures) != len(numbers):  # a scheme's name counts as several structures
        raise InputError(
            f"config.{prefix}structures={text!r}: write each structure with its value in the masks, 1 to {_LARGEST}, "
            "as in femur=1,tibia=255, or all of them without, as in femur,tibia"
        )
    return checked(LabelMap(dict(zip(structures, map(int, numbers), strict=True)), ignore, prefix))


def numbered(structures: Sequence[str], ignore: int, prefix: str) -> LabelMap:
    """Return the label map of structures with the values 1, 2, ..."""
    return LabelMap({name: value for value, name in enumerate(structures, start=1)}, ignore, prefix)


def checked(labels: LabelMap) -> LabelMap:
    """Return the label map after checks.

    Raises:
        InputError: a value has two meanings, or the void value is not a positive integer.
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


def numbered_up_to(highest: int, ignore: int, prefix: str, path: Path) -> LabelMap:
    """Return the label map of `structure 1`, ... up to the highest value in the masks.

    Args:
        highest: value in the masks other than void.
        ignore: the value of void pixels; -1 for none.
        prefix: of the settings, `data.` or `data.external_`.
        path: the cohort's table, for the message.

    Raises:
        InputError: the highest value is 0, or too high for the number of a structure.
    """
    if not 1 <= highest <= MAX_UNNAMED:
        remedy = "number the structures 1, 2, ..., or name them with their values"
        if highest > MAX_UNNAMED:
            remedy += (
                f", as in --config.{prefix}structures=femur={highest}; if these pixels are unlabeled, give "
                f"--config.{prefix}ignore_label={highest}"
            )
        raise InputError(f"{path}: the highest label in the masks is {highest}; {remedy}")
    return checked(numbered([f"structure {label}" for label in range(1, highest + 1)], ignore, prefix))


def to_labels(mask: np.ndarray, labels: LabelMap, path: MaskPath) -> np.ndarray:
    """Map values as in the file, integers [H, W], to u8[H, W]: 0 background, i + 1 the i-th structure, `anatomy.VOID`.

    Raises:
        InputError: the mask has a value outside the label map.
    """
    low, high = int(mask.min()), int(mask.max())
    if not labels.settings and 0 <= low <= high <= len(labels.values):
        return mask.astype(np.uint8)  # the common case: the values are the labels
    number = {0: 0} | {value: label for label, value in enumerate(labels.values.values(), start=1)}
    if labels.ignore > 0:
        number[labels.ignore] = anatomy.VOID
    is_small = low >= 0 and high <= _LARGEST
    present = (np.flatnonzero(np.bincount(mask.ravel())) if is_small else np.unique(mask)).tolist()
    if unknown := [value for value in present if value not in number]:
        raise InputError(f"{path}: {_unknown_values_message(mask, present, unknown, labels)}")
    table = np.zeros(high + 1, np.uint8)
    table[present] = [number[value] for value in present]
    mapped: np.ndarray = table[mask]
    return mapped


def resize(label: np.ndarray, size: tuple[int, int], labels: LabelMap, path: MaskPath) -> np.ndarray:
    """Resize labels to working resolution: each pixel takes the label, void included, that covers most of it.

    Raises:
        InputError: all resized pixels are void.
    """
    classes = len(labels.values) + 1
    if labels.ignore < 0:
        return readers.resize_label(label, size, classes)
    # During resizing, void is the last class, since `resize_label` requires labels without gaps.
    small = readers.resize_label(np.where(label == anatomy.VOID, classes, label), size, classes + 1)
    if (small == classes).all():
        raise InputError(
            f"{path}: all pixels are void ({labels.prefix}ignore_label={labels.ignore}); remove the row from the table"
        )
    return np.where(small == classes, anatomy.VOID, small).astype(np.uint8)


def _unknown_values_message(
    mask: np.ndarray, present: list[int], unknown: list[int], labels: LabelMap
) -> str:
    """Return what is wrong with values outside the label map, and what to do."""
    value = unknown[-1]
    scheme = ", ".join(f"{name}={number}" for name, number in labels.values.items())
    ignore = f"--config.{labels.prefix}ignore_label={value}"
    if mask_checks.contour_bands(mask, [*labels.values.values()], unknown):
        return (
            f"label {value} is a thin band along the contours, such as a void label, and not a structure of {scheme}; "
            f"exclude these pixels from training and scores with {ignore}"
        )
    if len(unknown) > _MAX_OMITTED:
        return (
            f"{len(unknown)} labels are not in the label map {scheme}, as after interpolation or in gray scales; "
            f"{mask_checks.EXPORT_LABELS}"
        )
    if len(unknown) == 1 and set(present) <= {0, value}:
        return (
            f"contains only {' and '.join(map(str, present))}, and label {value} is not in the label map {scheme}; if "
            f"it is a structure, map it with --config.{labels.prefix}structures={labels.structures[0]}={value}; if "
            f"these pixels are unlabeled, give {ignore}"
        )
    return (
        f"label {value} is not in the label map {scheme}; if these pixels are unlabeled, give {ignore}; "
        f"otherwise map it with --config.{labels.prefix}structures={scheme.replace(' ', '')},NAME={value}"
    )
