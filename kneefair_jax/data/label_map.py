"""Map values in masks to structures: `femur=1 tibia=2`, several values of one structure, background, ignored values.

An audit gives a label map as --labels; without it, the values or the names of DICOM segments in the files are the
structures. A folder cohort gives it as `data.structures` and `data.ignore_label` (`CohortLabels`).
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import NamedTuple

import numpy as np

from kneefair_jax import anatomy
from kneefair_jax.data import cell_text, inspection, readers
from kneefair_jax.data.mask_files import MaskPath, MaskSource, Values
from kneefair_jax.errors import InputError

_OPTION = "--labels"
BACKGROUND = "background"
# Void pixels, which have no label: every score excludes them.
IGNORE = "ignore"
AUTO = "auto"  # `data.structures` of a folder cohort whose masks number the structures
# A higher value, such as the 255 of binary masks, is not the number of a structure.
MAX_UNNAMED = 32
# More unknown values than this are not single labels that the user omitted.
_MAX_OMITTED = 3
_LARGEST = 65_535
# Label maps are u8, and 0 is background.
_MAX_STRUCTURES = 255

# Structure -> its value or values in the files, in the order of the report.
type Labels = Mapping[str, int | Sequence[int]]
type LabelMap = Mapping[str, tuple[int, ...]]  # of `check`


def parse(words: Sequence[str], option: str = "--labels") -> dict[str, tuple[int, ...]]:
    """Parse `["femur=1,4", "tibia=2"]` to structure -> values; the first word may name a scheme of `anatomy.SCHEMES`.

    `background=0,3` states further values that are no structure, `ignore=255` the value of excluded pixels.

    Raises:
        InputError: a word is not of this form, or a name or value occurs twice.
    """
    scheme = anatomy.SCHEMES.get(words[0], ()) if words else ()
    labels: dict[str, tuple[int, ...]] = {name: (label,) for label, name in enumerate(scheme, start=1)}
    if scheme and len(words) == 1:
        return labels
    for word in words[1 if scheme else 0 :]:
        name, equals, text = word.rpartition("=")
        try:
            values = tuple(map(_whole_number, text.split(",")))
        except ValueError:
            values = ()
        if not equals or not name.strip() or "=" in name or not values:
            schemes = ", ".join(anatomy.SCHEMES)
            raise InputError(
                f"{option} {word!r}: write structure=value, such as femur=1 or femur=1,4, or one of {schemes}"
            )
        if name.strip() in labels:
            raise InputError(f"{option}: {name.strip()!r} occurs twice; write {name.strip()}=1,4")
        labels[name.strip()] = values
    return check(labels, option)


def _whole_number(text: str) -> int:
    number = cell_text.parse_number(text)
    if not number.is_integer():
        raise ValueError(f"{text!r} is not a whole number")
    return int(number)


def check(labels: Labels, option: str = "labels") -> dict[str, tuple[int, ...]]:
    """Return the label map with 0 as background, and after it the ignored values, if there are any.

    Classes replace whole bones that share values: `whole femur=1,5 whole patella=4,5` becomes `femur=1`, `patella=4`
    and `femur and patella=5`.

    Raises:
        InputError: a value stands for two structures, there is no structure, there are more than 255, or 0 is ignored.
    """
    structures = {
        name: (values,) if isinstance(values, int) else tuple(values) for name, values in labels.items()
    }
    structures = _by_class(structures, option)
    background = (0, *structures.pop(BACKGROUND, ()))
    ignored = {IGNORE: structures.pop(IGNORE)} if IGNORE in structures else {}
    if not structures:
        raise InputError(f"{option}: names no structure; write structure=value, such as femur=1")
    if len(structures) > _MAX_STRUCTURES:
        raise InputError(
            f"{option}: names {len(structures)} structures, and an audit takes up to {_MAX_STRUCTURES}; join values to "
            "one structure, as in femur=1,4, or audit a part of them with the rest as background"
        )
    _require_distinct([*structures.items(), (BACKGROUND, background), *ignored.items()], option)
    return {**structures, BACKGROUND: tuple(dict.fromkeys(background)), **ignored}


def _require_distinct(labels: Iterable[tuple[str, Iterable[int]]], option: str) -> dict[int, str]:
    """Return value -> name, and refuse a value of two names."""
    names: dict[int, str] = {}
    for name, values in labels:
        for value in dict.fromkeys(values):
            if value in names:
                raise InputError(
                    f"{option}: value {value} is both {names[value]!r} and {name!r}; a pixel has one structure, so "
                    "give each value once"
                )
            names[value] = name
    return names


def _by_class(structures: Mapping[str, tuple[int, ...]], option: str) -> dict[str, tuple[int, ...]]:
    """Replace two whole bones that share values by the classes of `anatomy.OVERLAPS`.

    Raises:
        InputError: the labels name a class beside a whole bone that contains it.
    """
    result = dict(structures)
    for overlap, bones in anatomy.OVERLAPS.items():
        of_bone = {bone: structures.get(f"whole {bone}", ()) for bone in bones}
        shared = tuple(value for value in of_bone[bones[0]] if value in of_bone[bones[1]])
        if not shared:
            continue
        for name in (*bones, overlap):
            if name in structures:
                raise InputError(
                    f"{option}: {name!r} is part of whole bones that share the value {shared[0]}; name whole bones "
                    f"({' and '.join(f'whole {bone}' for bone in bones)}) or their classes, not both"
                )
        for bone, values in of_bone.items():
            del result[f"whole {bone}"]
            result[bone] = tuple(value for value in values if value not in shared)
            if not result[bone]:
                raise InputError(
                    f"{option}: 'whole {bone}' has no value of its own beside {shared[0]}; name the value of its "
                    "pixels outside the other bone, though no mask may hold it"
                )
        result[overlap] = shared
    return result


def structure_names(labels: LabelMap) -> tuple[str, ...]:
    """Return the names of labels 1, 2, ... that `to_labels` gives."""
    return tuple(name for name in labels if name not in (BACKGROUND, IGNORE))


def of_prediction(labels: LabelMap) -> dict[str, tuple[int, ...]]:
    """Return the label map of predictions that have the values of the reference masks: they ignore no pixel."""
    return {name: values for name, values in labels.items() if name != IGNORE}


def ignored(mask: np.ndarray, labels: LabelMap) -> np.ndarray:
    """Return bool[H, W], whether a mask with values as in the file holds an ignored one."""
    return np.isin(mask, labels.get(IGNORE, ()))


def to_labels(mask: np.ndarray, labels: LabelMap, path: MaskSource, option: str = _OPTION) -> np.ndarray:
    """Map values as in the file to u8[H, W]: 0 background and ignored pixels, i + 1 the i-th structure.

    Args:
        mask: integers [H, W].
        labels: the label map.
        path: the file, for the message.
        option: that gave the labels, for the message.

    Raises:
        InputError: the mask holds a value that the label map does not name.
    """
    number = dict.fromkeys((*labels[BACKGROUND], *labels.get(IGNORE, ())), 0)
    number |= {value: s for s, name in enumerate(structure_names(labels), start=1) for value in labels[name]}

    def fault(_: list[int], unknown: list[int]) -> str:
        if len(unknown) > _MAX_OMITTED:
            return (
                f"holds {len(unknown)} values that name no structure ({first_values(unknown)}; {describe(labels)}), as "
                f"interpolation and gray scales produce them; {inspection.EXPORT_LABELS}, or name them in {option}"
            )
        void = f", as {IGNORE}={unknown[0]} if these pixels have no label" if option == _OPTION else ""
        return (
            f"holds the value {first_values(unknown)}, which names no structure ({describe(labels)}); name it in "
            f"{option}, as {BACKGROUND}={unknown[0]} if it is no structure{void}"
        )

    return _map_values(mask, number, path, fault)


class UnknownValuesError(InputError):
    """A mask holds `values` that its label map does not name."""

    def __init__(self, message: str, values: Sequence[int]):
        super().__init__(message)
        self.values = tuple(values)


def _map_values(
    mask: np.ndarray,
    number: Mapping[int, int],
    path: MaskSource,
    fault: Callable[[list[int], list[int]], str],
) -> np.ndarray:
    """Map the values of a mask, integers [H, W], to u8[H, W].

    Args:
        mask: values as in the file.
        number: value -> label.
        path: the file, for the message.
        fault: returns the message on unknown values, given all values of the mask and the unknown ones.

    Raises:
        UnknownValuesError: `number` lacks a value of the mask.
    """
    low, high = int(mask.min()), int(mask.max())
    is_small = 0 <= low <= high <= _LARGEST and np.can_cast(mask.dtype, np.intp)
    present = (np.flatnonzero(np.bincount(mask.ravel())) if is_small else np.unique(mask)).tolist()
    if unknown := [value for value in present if value not in number]:
        raise UnknownValuesError(f"{path}: {fault(present, unknown)}", unknown)
    labels = np.array([number[value] for value in present], np.uint8)
    if not is_small:
        return labels[np.searchsorted(present, mask)]
    table = np.zeros(high + 1, np.uint8)  # faster than a search for each pixel
    table[present] = labels
    mapped: np.ndarray = table[mask]
    return mapped


def describe(labels: LabelMap) -> str:
    """Return the label map as text: `femur=1,4 tibia=2`."""
    return " ".join(f"{name}={','.join(map(str, values))}" for name, values in labels.items())


def first_values(values: Sequence[object]) -> str:
    """Return up to five values as text."""
    return ", ".join(map(str, values[:5])) + (", ..." if len(values) > 5 else "")


class CohortLabels(NamedTuple):
    """The label map of a folder cohort: the meaning of the values in its mask files; 0 is background.

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
        void = {} if self.ignore < 0 else {IGNORE: (self.ignore,)}
        return {name: (value,) for name, value in self.values.items()} | void

    def checked(self) -> "CohortLabels":
        """Return the label map after checks.

        Raises:
            InputError: a value has two meanings, or the void value is not a positive integer.
        """
        names = _require_distinct(
            [(name, (value,)) for name, value in self.values.items()], f"config.{self.prefix}structures"
        )
        if self.ignore in names:
            raise InputError(
                f"config.{self.prefix}ignore_label={self.ignore} is the value of {names[self.ignore]!r}; give the "
                "value of void pixels, or -1 for none"
            )
        if self.ignore != -1 and not 0 < self.ignore <= _LARGEST:
            raise InputError(
                f"config.{self.prefix}ignore_label={self.ignore}: give the value of void pixels, 1 to {_LARGEST} "
                "(0 is background), or -1 for none"
            )
        return self

    def to_labels(self, mask: np.ndarray, path: MaskPath) -> np.ndarray:
        """Map values as in the file, integers [H, W], to u8[H, W].

        0 is background, i + 1 the i-th structure, `anatomy.VOID` a void pixel.

        Raises:
            InputError: the mask has a value outside the label map.
        """
        low, high = int(mask.min()), int(mask.max())
        if not self.settings and 0 <= low <= high <= len(self.values):
            return mask.astype(np.uint8)  # the common case: the values are the labels
        number = {0: 0} | {value: label for label, value in enumerate(self.values.values(), start=1)}
        if self.ignore > 0:
            number[self.ignore] = anatomy.VOID
        return _map_values(mask, number, path, partial(self._unknown_values_message, mask))

    def resize(self, label: np.ndarray, size: tuple[int, int], path: MaskPath) -> np.ndarray:
        """Resize labels to working resolution: each pixel takes the label, void included, that covers most of it.

        Raises:
            InputError: all resized pixels are void.
        """
        classes = len(self.values) + 1
        if self.ignore < 0:
            return readers.resize_label(label, size, classes)
        # During resizing, void is the last class, since `resize_label` requires labels without gaps.
        small = readers.resize_label(np.where(label == anatomy.VOID, classes, label), size, classes + 1)
        if (small == classes).all():
            raise InputError(
                f"{path}: all pixels are void ({self.prefix}ignore_label={self.ignore}); remove the row from the table"
            )
        return np.where(small == classes, anatomy.VOID, small).astype(np.uint8)

    def _unknown_values_message(self, mask: np.ndarray, present: list[int], unknown: list[int]) -> str:
        """Return what is wrong with values outside the label map, and what to do."""
        value = unknown[-1]
        scheme = ", ".join(f"{name}={number}" for name, number in self.values.items())
        ignore = f"--config.{self.prefix}ignore_label={value}"
        if inspection.contour_bands(mask, [*self.values.values()], unknown):
            return (
                f"label {value} is a thin band along the contours, such as a void label, and not a structure of "
                f"{scheme}; exclude these pixels from training and scores with {ignore}"
            )
        if len(unknown) > _MAX_OMITTED:
            return (
                f"{len(unknown)} labels are not in the label map {scheme}, as after interpolation or in gray scales; "
                f"{inspection.EXPORT_LABELS}"
            )
        if len(unknown) == 1 and set(present) <= {0, value}:
            return (
                f"contains only {' and '.join(map(str, present))}, and label {value} is not in the label map {scheme}; "
                f"if it is a structure, map it with --config.{self.prefix}structures={self.structures[0]}={value}; if "
                f"these pixels are unlabeled, give {ignore}"
            )
        return (
            f"label {value} is not in the label map {scheme}; if these pixels are unlabeled, give {ignore}; "
            f"otherwise map it with --config.{self.prefix}structures={scheme.replace(' ', '')},NAME={value}"
        )


def parse_setting(text: str, ignore: int, prefix: str) -> CohortLabels:
    """Return the label map of `data.structures` and `data.ignore_label`.

    Args:
        text: a scheme of `anatomy.SCHEMES`, names of labels 1, 2, ... by comma, or names with values, `femur=255`.
        ignore: the value of void pixels; -1 for none.
        prefix: of the settings, `data.` or `data.external_`.

    Raises:
        InputError: the text has another form, or repeats a value.
    """
    if "=" not in text:
        return numbered(anatomy.parse(text), ignore, prefix).checked()
    words = [word.rpartition("=") for word in text.split(",")]
    numbers = [number.strip() for _, _, number in words]
    is_number = [number.isdecimal() and 0 < int(number) <= _LARGEST for number in numbers]
    structures = anatomy.parse(",".join(name for name, _, _ in words)) if all(is_number) else ()
    if len(structures) != len(numbers):  # a scheme's name counts as several structures
        raise InputError(
            f"config.{prefix}structures={text!r}: write each structure with its value in the masks, 1 to {_LARGEST}, "
            "as in femur=1,tibia=255, or all of them without, as in femur,tibia"
        )
    return CohortLabels(dict(zip(structures, map(int, numbers), strict=True)), ignore, prefix).checked()


def numbered(structures: Sequence[str], ignore: int, prefix: str) -> CohortLabels:
    """Return the label map of structures with the values 1, 2, ..."""
    return CohortLabels({name: value for value, name in enumerate(structures, start=1)}, ignore, prefix)
