"""Map values in masks to structures: `femur=1 tibia=2`, several values of one structure, background, ignored values.

Without --labels, the values or the names of DICOM segments in the files are the structures (`discover`).
"""

import os
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pandas as pd

from kneefair_jax import anatomy
from kneefair_jax.data import cell_text, mask_checks, mask_files, metadata
from kneefair_jax.data.mask_files import MaskSource
from kneefair_jax.errors import InputError
from kneefair_jax.runtime import progress

_OPTION = "--labels"
BACKGROUND = "background"
# Void pixels, which have no label: every score excludes them.
IGNORE = "ignore"
# More unknown values than this are no forgotten label.
_MAX_FORGOTTEN = 3
# Without this limit, masks of 0 and 255 would have a structure 255.
_MAX_DISCOVERED = 32
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


def parse_by_model(
    words: Sequence[str], option: str = "--pred-labels"
) -> tuple[dict[str, tuple[int, ...]] | None, dict[str, dict[str, tuple[int, ...]]]]:
    """Parse the label map of all models, and those of single models, each after the model's name and a colon.

    `["femur=1", "tibia=2", "b:", "femur=10", "tibia=20"]`: model b has other values than the rest.

    Returns:
        The label map of the models that have none of their own, or None; and model -> label map.

    Raises:
        InputError: a word has another form, or a model occurs twice or has no label map.
    """
    lists: dict[str, list[str]] = {}
    shared: list[str] = []
    current = shared
    for word in words:
        if word.endswith(":") and "=" not in word:
            if word[:-1] in lists:
                raise InputError(f"{option}: the model {word[:-1]!r} occurs twice; give its label map once")
            current = lists.setdefault(word[:-1], [])
        else:
            current.append(word)
    if empty := [model for model, own in lists.items() if not own]:
        raise InputError(f"{option} {empty[0]}: no label map follows; write {empty[0]}: femur=1 tibia=2")
    return (
        parse(shared, option) if shared else None,
        {model: parse(own, option) for model, own in lists.items()},
    )


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


def discover(frame: pd.DataFrame, table: Path, truth: Mapping[str, MaskSource]) -> dict[str, tuple[int, ...]]:
    """Return structure -> values without --labels: the names of DICOM segments, or `structure 1`, ... by value.

    Args:
        frame: the cases, indexed by row: `case_id`.
        table: the table of the cases, for messages.
        truth: case id -> reference mask; each is decoded once more.

    Raises:
        InputError: a file cannot be read (by row of the table), there is no structure, or a value is unlikely to be a
            label.
    """

    def read(case: str) -> set[int] | list[str] | InputError:
        try:
            if names := mask_files.segment_names(truth[case]):
                return names
            return set(np.unique(mask_files.read(truth[case], {}).values).tolist())
        except InputError as error:
            return error

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        results = list(progress.track(pool.map(read, frame["case_id"]), len(frame), "reading labels"))
    errors = zip(frame.index, results, strict=True)
    metadata.refuse(table, [(row, str(error)) for row, error in errors if isinstance(error, InputError)])
    values = set[int]().union(*(result for result in results if isinstance(result, set)))
    names = [name for result in results if isinstance(result, list) for name in result]
    if not names:
        return _by_value(values)
    if any(isinstance(result, set) for result in results):
        raise InputError(
            "--truth: some masks are DICOM-SEG, whose segments have names, and some have only values; name the "
            "structures with --labels, such as --labels femur=1 tibia=2"
        )
    if set(names) & anatomy.OVERLAPS.keys():  # segments that overlap in other files alone, `dicom_seg.read`
        names = [anatomy.class_beside(name) for name in names]
    unique = dict.fromkeys(names)
    order = next((scheme for scheme in anatomy.SCHEMES.values() if set(unique) <= set(scheme)), unique)
    in_order = [name for name in order if name in unique]
    return {name: (label,) for label, name in enumerate(in_order, start=1)}


def _by_value(values: Iterable[int]) -> dict[str, tuple[int, ...]]:
    values = sorted(set(values) - {0})
    if not values or not 1 <= values[0] <= values[-1] <= _MAX_DISCOVERED:
        content = f"hold the values {_first(values)}" if values else "are all empty"
        raise InputError(
            f"--truth: the masks {content}; name their structures with --labels, such as --labels femur=1 tibia=2 (in "
            f"masks of 0 and 255, --labels femur=255), and {IGNORE}=255 if the pixels of 255 have no label"
        )
    return {f"structure {value}": (value,) for value in values}


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
    present = np.flatnonzero(np.bincount(mask.ravel())) if mask.dtype == np.uint8 else np.unique(mask)
    if unknown := sorted(set(present.tolist()) - number.keys()):
        if len(unknown) > _MAX_FORGOTTEN:
            raise InputError(
                f"{path}: holds {len(unknown)} values that name no structure ({_first(unknown)}; {describe(labels)}), "
                f"as interpolation and gray scales produce them; {mask_checks.EXPORT_LABELS}, or name them in {option}"
            )
        void = f", as {IGNORE}={unknown[0]} if these pixels have no label" if option == _OPTION else ""
        raise InputError(
            f"{path}: holds the value {_first(unknown)}, which names no structure ({describe(labels)}); name it in "
            f"{option}, as {BACKGROUND}={unknown[0]} if it is no structure{void}"
        )
    table = np.array([number[value] for value in present.tolist()], np.uint8)
    return table[np.searchsorted(present, mask)]


def describe(labels: LabelMap) -> str:
    """Return the label map as text: `femur=1,4 tibia=2`."""
    return " ".join(f"{name}={','.join(map(str, values))}" for name, values in labels.items())


def _first(values: Sequence[int]) -> str:
    return ", ".join(map(str, values[:5])) + (", ..." if len(values) > 5 else "")
