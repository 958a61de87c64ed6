"""Cases from a folder: images, masks and one `metadata.csv` (see `metadata`)."""

import os
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import batched
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from kneefair_jax import anatomy, cohort
from kneefair_jax.data import ages, inspection, layouts, mask_checks, mask_files, metadata, readers
from kneefair_jax.data.inspection import Inspection
from kneefair_jax.data.source import Example, Source
from kneefair_jax.errors import InputError
from kneefair_jax.safe_text import without_paths

# Masks of 0 and 255 would otherwise pass for 255 structures.
_MAX_FOUND = 32
_THREADS = 4
_MANY_OUTSIDE = 3
_READER = 4  # counts changes of what readers make of a file; a store of an earlier one is prepared anew


class Case(NamedTuple):
    """Where a case's arrays are.

    Attributes:
        row: its line in metadata.csv.
        image: path of the image.
        mask: path of the mask.
        spacing: f32[2], mm per pixel from the table; NaN leaves it to the image's header.
    """

    row: int
    image: Path
    mask: Path
    spacing: np.ndarray


def source(config: Mapping[str, Any], *, size: tuple[int, int], channels: int) -> Source:
    """The cases of a folder.

    Checks the table and that every file is there; `Source.read` reads the pixels, and checks them.

    Args:
        config: `root`, the folder; `metadata`, its table's file name; `structures`, a scheme of
            `anatomy.SCHEMES`, names between commas, or "auto" for those found in the masks; `attributes`, the
            columns that define groups; `bins`, attribute -> ascending edges, for numbers; `split_column`, or
            "" for none; `on_broken`, "stop", or "skip" to leave a missing file to `Source.read`; `orientation`, a name
            of `layouts.FLAGS` for the masks whose relation to their film the headers leave open (of film and mask,
            one or both state no orientation), or "" to follow the headers and refuse what they contradict;
            `allow_similar_ids`, whether identifiers and levels may look alike.
        size: rows and columns of the working grid.
        channels: 1 (colour becomes grey) or 3.

    Raises:
        InputError: the table or a file cannot be used; the first five problems, and how many there are.
    """
    if not config["root"]:
        raise InputError("config.data.root is empty: give the folder with --config.data.root=DIR")
    orientation = config.get("orientation", "")
    if orientation and orientation not in layouts.FLAGS:
        raise InputError(
            f"config.data.orientation={orientation!r}: give one of {', '.join(layouts.FLAGS)}, or nothing"
        )
    root = Path(config["root"])
    path = root / config["metadata"]
    table, written, notes = metadata.read(path)
    metadata.require_columns(table, path, config)
    notes += metadata.word_notes(written, config["attributes"])
    problems: list[metadata.Problem] = []
    options = metadata.Options(allow_similar=config.get("allow_similar_ids", False))
    table, more = metadata.with_ages(table, path, config["attributes"])
    metadata.check_identifiers(table, problems, options=options)
    columns = {name: table[name] for name in ("case_id", "patient_id")}
    for name in config["attributes"]:
        columns[name] = metadata.attribute(table[name], config["bins"].get(name), problems, options)
        metadata.check_merged(table, name, problems)
    if config["split_column"]:
        columns["split"] = metadata.splits(table[config["split_column"]], problems)
    spacing = metadata.spacings(table, problems)
    files = _fingerprints(table, root, skip=config["on_broken"] == "skip", problems=problems)
    metadata.refuse(path, problems)

    others = metadata.confounders(table, config["attributes"])
    notes += [*more, *metadata.not_numbers(table, others), *ages.unlikely(table)]
    frame = pd.concat([pd.DataFrame(columns), others], axis=1).reset_index(drop=True)
    if config["split_column"]:
        cohort.check_no_leak(frame)
    rows = zip(table.index, table["image"], table["mask"], spacing, strict=True)
    cases = [Case(row, root / image, root / mask, mm) for row, image, mask, mm in rows]
    structures = (
        _found_structures(path, cases)
        if config["structures"] == "auto"
        else anatomy.parse(config["structures"])
    )
    mask_files.check_palettes([case.mask for case in cases], _values(structures), _THREADS)
    settings = {
        "kind": "folder",
        "reader": _READER,
        "orientation": orientation,
        "files": files,
        "grid": [*size, channels],
        "structures": list(structures),
        "spacing_mm": list(table["spacing_mm"]) if "spacing_mm" in table else None,
    }
    return Source(
        cases=frame,
        structures=structures,
        settings=settings,
        read=partial(_read, root, path, cases, size, channels, structures, orientation),
        portable=True,
        whole=partial(_read, root, path, cases, None, channels, structures, orientation),
        notes=(*notes, *_links(root, cases)),
        files=partial(_files_of, cases),
    )


def _fingerprints(
    table: pd.DataFrame, root: Path, *, skip: bool, problems: list[metadata.Problem]
) -> list[list[Any]]:
    """Path, bytes and time of change of every image and mask: cheap, and enough to notice a new file."""
    fingerprints = []
    for row, *names in table[["image", "mask"]].itertuples():
        for name, column in zip(names, ("image", "mask"), strict=True):
            path = root / name
            if name and (Path(name).is_absolute() or os.path.normpath(name).split(os.sep)[0] == ".."):
                problems.append(
                    (row, f"{column} {name}: write the path relative to data.root, and inside it")
                )
            elif name and not path.is_file() and skip:
                fingerprints.append([name, None, None])  # left to the reading, like any that cannot be read
            elif name and not path.is_file():
                problems.append((row, f"{column} {path}: no such file; correct the path or remove the row"))
            elif name:
                stat = path.stat()
                fingerprints.append([name, stat.st_size, stat.st_mtime_ns])
    return fingerprints


def _links(root: Path, cases: Sequence[Case]) -> Iterator[str]:
    """A note where files are reached through symbolic links that lead out of the folder."""
    inside = root.resolve()
    leaving = [
        (case.row, path)
        for case in cases
        for path in (case.image, case.mask)
        if path.exists() and not path.resolve().is_relative_to(inside)
    ]
    if leaving:
        row, path = leaving[0]
        yield (
            f"{len(leaving)} files are reached through symbolic links that lead out of data.root (such as row {row}, "
            f"{path.relative_to(root)})"
        )


def _found_structures(path: Path, cases: Sequence[Case]) -> tuple[str, ...]:
    def of(case: Case) -> int | InputError:
        try:
            return int(mask_files.read(case.mask, {}).values.max())
        except InputError as error:
            return error  # `Source.read` says what is wrong with it, if other masks can be read

    with ThreadPoolExecutor(_THREADS) as pool:
        results = list(pool.map(of, cases))
    highest = max((result for result in results if isinstance(result, int)), default=0)
    if errors := [result for result in results if isinstance(result, InputError) and not highest]:
        raise errors[0]
    if not 1 <= highest <= _MAX_FOUND:
        raise InputError(
            f"{path}: the highest label in the masks is {highest}; number the structures 1, 2, ... "
            "(in a mask of 0 and 255, make 255 a 1), or name them in data.structures"
        )
    return tuple(f"structure {label}" for label in range(1, highest + 1))


def _values(structures: Sequence[str]) -> dict[str, tuple[int]]:
    """The label map of a folder: structure i is label i + 1."""
    return {name: (label,) for label, name in enumerate(structures, start=1)}


def _arrays(
    case: Case, channels: int, structures: Sequence[str], orientation: str
) -> tuple[np.ndarray, np.ndarray, np.ndarray, Inspection]:
    """Image u8[H, W, channels], label u8[H, W] and spacing f32[2] as displayed, and what the files show beside them."""
    film, mask = readers.read_radiograph(case.image), mask_files.read(case.mask, _values(structures))
    if not orientation and layouts.relation(film.orientation, mask.orientation) == layouts.OPEN:
        raise InputError(f"{case.mask}: {_open(case, film.orientation, mask.orientation)}")
    image, spacing = film.pixels, film.spacing
    correction = layouts.correction(film.orientation, mask.orientation, orientation or "none")
    label = correction.apply(mask.values)
    if image.shape[:2] != label.shape:
        raise InputError(
            f"{case.mask}: mask and image differ in size ({label.shape} and {image.shape[:2]} rows and columns); "
            "export both on one grid"
        )
    if label.min() < 0 or label.max() > len(structures):
        raise InputError(f"{case.mask}: {_outside(label, structures)}")
    label = label.astype(np.uint8)
    image = readers.to_uint8(image, valid=film.valid)
    if channels == 1:
        image = readers.to_grey(image)
    if image.shape[2] != channels:
        raise InputError(
            f"{case.image}: has {image.shape[2]} channel, {channels} are wanted; set channels to 1, "
            "or give colour images"
        )
    return (
        image,
        label,
        np.where(np.isnan(case.spacing), spacing, case.spacing),
        _inspection(film, mask, correction.of_pair(mask.spacing), case.spacing, label),
    )


def _inspection(
    film: readers.Radiograph,
    mask: mask_files.Mask,
    mask_spacing: np.ndarray,
    table_spacing: np.ndarray,
    label: np.ndarray,
) -> Inspection:
    notes = [
        *(f"film: {text}" for text in film.notes),
        *(f"mask: {text}" for text in mask.notes),
        *inspection.spacing_notes(film.spacing, mask_spacing, table_spacing),
    ]
    kind = film.spacing_kind if np.isnan(table_spacing).any() else "table"
    return inspection.of_mask(label, kind, notes)


def _open(case: Case, film: readers.Orientation | None, mask: readers.Orientation | None) -> str:
    """What the headers leave open, and the flags that decide it."""
    turned, other = (case.image.name, case.mask.name) if mask is None else (case.mask.name, case.image.name)
    turn = readers.name_of(film or mask or readers.NONE)
    return (
        f"the header of {turned} states an orientation ({turn} displays its pixels), and that of {other} states none; "
        f"give --config.data.orientation=none if {other} lies as {turned} is displayed, "
        f"--config.data.orientation={layouts.STORED} if it lies as the pixels of {turned} are stored"
    )


def _outside(label: np.ndarray, structures: Sequence[str]) -> str:
    """What is wrong with labels beyond the scheme, and what to do."""
    outside = np.unique(label[(label < 0) | (label > len(structures))])
    if mask_checks.contour_bands(label, range(1, len(structures) + 1), outside.tolist()):
        return (
            f"label {outside[-1]} is a thin band along the contours, such as a void label, and outside the scheme "
            f"0-{len(structures)}; training needs a label for every pixel, so draw the structures up to their contours "
            f"(an audit leaves such pixels out with --labels ... ignore={outside[-1]})"
        )
    if len(outside) > _MANY_OUTSIDE:
        return (
            f"{len(outside)} labels are outside the scheme 0-{len(structures)}, as interpolation and gray scales leave "
            f"them; {mask_checks.EXPORT_LABELS}"
        )
    return (
        f"label {outside[-1]} is outside the scheme 0-{len(structures)}; renumber the mask or name the structure in "
        "data.structures"
    )


def _files_of(cases: Sequence[Case], row: int) -> tuple[Path, ...]:
    return cases[row].image, cases[row].mask


def _read(
    root: Path,
    path: Path,
    cases: Sequence[Case],
    size: tuple[int, int] | None,
    channels: int,
    structures: Sequence[str],
    orientation: str,
    rows: Sequence[int],
) -> Iterator[Example | InputError]:
    def load(row: int) -> Example | InputError:
        case = cases[row]
        try:
            image, label, spacing, seen = _arrays(case, channels, structures, orientation)
        except InputError as error:
            return InputError(without_paths(f"{path} row {case.row}: {error}", root))
        if size is None:
            return Example(image, label, spacing, seen)
        scale = np.array(label.shape, np.float32) / np.array(size, np.float32)
        return Example(
            readers.resize_image(image, size),
            readers.resize_label(label, size, len(structures) + 1),
            spacing * scale,
            seen,
        )

    with ThreadPoolExecutor(_THREADS) as pool:
        for few in batched(rows, 4 * _THREADS):  # a pool reads all it is given, so give it little at a time
            yield from pool.map(load, few)
