"""Values in masks -> structures: `femur=1 tibia=2`, several values of one structure, what is background or ignored."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

from kneefair_jax import anatomy
from kneefair_jax.data import cell_text, mask_checks
from kneefair_jax.data.mask_files import MaskPath
from kneefair_jax.errors import InputError

_OPTION = "--labels"
BACKGROUND = "background"
# Void pixels, which nobody labeled: they are left out of every score.
IGNORE = "ignore"
# More unknown values than this are not one forgotten label.
_MANY_UNKNOWN = 3
# Masks of 0 and 255 would otherwise pass for structure 255.
_MAX_FOUND = 32
# Label maps are u8, and 0 is background.
_MAX_STRUCTURES = 255

# Structure -> its value in the files, or values, in the order of the report.
Labels = Mapping[str, int | Sequence[int]]
Checked = Mapping[str, tuple[int, ...]]


def parse(words: Sequence[str], option: str = "--labels") -> dict[str, tuple[int, ...]]:
    """`["femur=1,4", "tibia=2"]` -> structure -> values; the first word may name a scheme of `anatomy.SCHEMES`.

    `background=0,3` says which further values are no structure, `ignore=255` which pixels are left out of the scores.

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
            raise InputError(f"{option}: {name.strip()!r} is given twice; write {name.strip()}=1,4")
        labels[name.strip()] = values
    return checked(labels, option)


def _whole_number(text: str) -> int:
    number = cell_text.parse_number(text)
    if not number.is_integer():
        raise ValueError(f"{text!r} is not a whole number")
    return int(number)


def checked(labels: Labels, option: str = "labels") -> dict[str, tuple[int, ...]]:
    """The same with 0 as background, and after it the ignored values, where there are any.

    Whole bones that share values are given by their classes: of `whole femur=1,5 whole patella=4,5` are `femur=1`,
    `patella=4` and `femur and patella=5`.

    Raises:
        InputError: a value stands for two structures, there is no structure, there are more than 255, or 0 is ignored.
    """
    names: dict[int, str] = {}
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
    for name, values in [*structures.items(), (BACKGROUND, background), *ignored.items()]:
        for value in dict.fromkeys(values):
            if value in names:
                raise InputError(
                    f"{option}: value {value} is both {names[value]!r} and {name!r}; a pixel has one structure, so "
                    "give each value once"
                )
            names[value] = name
    return {**structures, BACKGROUND: tuple(dict.fromkeys(background)), **ignored}


def _by_class(structures: Mapping[str, tuple[int, ...]], option: str) -> dict[str, tuple[int, ...]]:
    """The same with the classes of `anatomy.OVERLAPS` in place of two whole bones that share values.

    Raises:
        InputError: a class is named beside a whole bone that contains it.
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


def structure_names(labels: Checked) -> tuple[str, ...]:
    """The names of labels 1, 2, ... of what `mapped` returns."""
    return tuple(name for name in labels if name not in (BACKGROUND, IGNORE))


def of_prediction(labels: Checked) -> dict[str, tuple[int, ...]]:
    """The label map of predictions that have the values of the reference masks: they leave no pixel out."""
    return {name: values for name, values in labels.items() if name != IGNORE}


def ignored(mask: np.ndarray, labels: Checked) -> np.ndarray:
    """Where a mask, with values as in the file, holds an ignored one; bool[H, W]."""
    return np.isin(mask, labels.get(IGNORE, ()))


def found(values: Iterable[int], folder: Path) -> dict[str, tuple[int, ...]]:
    """The structures of masks that nothing was said of, `structure 1`, ... by their values.

    Raises:
        InputError: there is none, or values that are unlikely to be labels.
    """
    values = sorted(set(values) - {0})
    if not values or not 1 <= values[0] <= values[-1] <= _MAX_FOUND:
        what = f"hold the values {_some(values)}" if values else "are all empty"
        raise InputError(
            f"--truth {folder}: the masks {what}; say what they mean with --labels, such as --labels femur=1 tibia=2 "
            f"(in masks of 0 and 255, --labels femur=255), and {IGNORE}=255 where nobody labeled the pixels of 255"
        )
    return {f"structure {value}": (value,) for value in values}


def mapped(mask: np.ndarray, labels: Checked, path: MaskPath, option: str = _OPTION) -> np.ndarray:
    """Values as in the file -> u8[H, W], 0 background and ignored pixels, i + 1 the i-th structure.

    Args:
        mask: integers [H, W].
        labels: of `checked`.
        path: the file, for the message.
        option: what gave the labels, for the message.

    Raises:
        InputError: the mask holds a value that none of them names.
    """
    number = dict.fromkeys((*labels[BACKGROUND], *labels.get(IGNORE, ())), 0)
    number |= {value: s for s, name in enumerate(structure_names(labels), start=1) for value in labels[name]}
    present = np.flatnonzero(np.bincount(mask.ravel())) if mask.dtype == np.uint8 else np.unique(mask)
    if unknown := sorted(set(present.tolist()) - number.keys()):
        if len(unknown) > _MANY_UNKNOWN:
            raise InputError(
                f"{path}: holds {len(unknown)} values that name no structure ({_some(unknown)}; {described(labels)}), "
                f"as interpolation and gray scales leave them; {mask_checks.EXPORT_LABELS}, or name them in {option}"
            )
        void = f", as {IGNORE}={unknown[0]} if nobody labeled these pixels" if option == _OPTION else ""
        raise InputError(
            f"{path}: holds the value {_some(unknown)}, which names no structure ({described(labels)}); name it in "
            f"{option}, as {BACKGROUND}={unknown[0]} if it is none{void}"
        )
    table = np.array([number[value] for value in present.tolist()], np.uint8)
    return table[np.searchsorted(present, mask)]


def described(labels: Checked) -> str:
    """`femur=1,4 tibia=2`."""
    return " ".join(f"{name}={','.join(map(str, values))}" for name, values in labels.items())


def _some(values: Sequence[int]) -> str:
    return ", ".join(map(str, values[:5])) + (", ..." if len(values) > 5 else "")
