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
from kneefair_jax.data import (
    ages,
    inspection,
    label_values,
    layouts,
    mask_files,
    metadata,
    readers,
    structure_files,
)
from kneefair_jax.data.inspection import Inspection
from kneefair_jax.data.label_values import LabelMap
from kneefair_jax.data.mask_files import MaskPath
from kneefair_jax.data.readers import laterality, limits
from kneefair_jax.data.source import Example, Source
from kneefair_jax.errors import InputError
from kneefair_jax.safe_text import strip_paths

_THREADS = 4
_READER = 6  # counts changes of what readers make of a file; a store of an earlier one is prepared anew


class Case(NamedTuple):
    """Where a case's arrays are.

    Attributes:
        row: its line in metadata.csv.
        image: path of the image.
        mask: path of the mask, or of its files, one a structure.
        spacing: f32[2], mm per pixel from the table; NaN leaves it to the image's header.
        side: which knee the table states, of `laterality.parse`.
    """

    row: int
    image: Path
    mask: MaskPath
    spacing: np.ndarray
    side: str = ""


def source(config: Mapping[str, Any], *, size: tuple[int, int], channels: int) -> Source:
    """The cases of a folder.

    Checks the table and that every file is there; `Source.read` reads the pixels, and checks them.

    Args:
        config: `root`, the folder; `metadata`, its table's file name; `structures`, a scheme of
            `anatomy.SCHEMES`, names between commas (`femur,tibia`, or with their values in the masks, `femur=255`), or
            "auto" for those found in the masks; `ignore_label`, the value of void pixels, or -1 for none; `prefix` of
            these settings in messages, "data." unless given; `attributes`, the columns that define groups; `bins`,
            attribute -> ascending edges, for numbers; `split_column`, or "" for none; `on_broken`, "stop", or "skip" to
            leave a missing file to `Source.read`; `orientation`, a name of `layouts.FLAGS` for the masks whose relation
            to their film the headers leave open (of film and mask, one or both state no orientation), or "" to follow
            the headers and refuse what they contradict; `allow_similar_ids`, whether identifiers and levels may look
            alike.
        size: rows and columns of the working grid.
        channels: 1 (colour becomes grey) or 3.

    Raises:
        InputError: the table or a file cannot be used; the first five problems, and how many there are.
    """
    if not config["root"]:
        raise InputError("config.data.root is empty: give the folder with --config.data.root=DIR")
    ignore, prefix = config.get("ignore_label", -1), config.get("prefix", "data.")
    orientation = layouts.checked(layouts.Flag(config.get("orientation", ""), f"{prefix}orientation"))
    is_auto, skip = config["structures"] == label_values.AUTO, config["on_broken"] == "skip"
    labels = None if is_auto else label_values.parse(config["structures"], ignore, prefix)
    root = Path(config["root"])
    path = root / config["metadata"]
    table, written, notes = metadata.read(path)
    table, of_ages = metadata.with_ages(table, path, config["attributes"])
    metadata.require_columns(table, path, config)
    notes += metadata.word_notes(written, config["attributes"])
    problems: list[metadata.Problem] = []
    options = metadata.Options(allow_similar=config.get("allow_similar_ids", False))
    metadata.check_identifiers(table, problems, options=options)
    columns = {name: table[name] for name in ("case_id", "patient_id")}
    for name in config["attributes"]:
        columns[name] = metadata.attribute(table[name], config["bins"].get(name), problems, options)
        metadata.check_merged(table, name, problems)
    if config["split_column"]:
        columns["split"] = metadata.splits(table[config["split_column"]], problems)
    others = metadata.confounders(table, config["attributes"], problems, options)
    spacing = metadata.spacings(table, problems)
    masks = _masks(table, root, labels.structures if labels else (), skip=skip, problems=problems)
    files = _fingerprints(table, masks, root, skip=skip, problems=problems)
    metadata.refuse(path, problems)
    several = [row for row, mask in zip(table.index, masks, strict=True) if not isinstance(mask, Path)]
    if ignore > 0 and several:
        raise InputError(
            f"config.{prefix}ignore_label={ignore}: the mask of {path} row {several[0]} has one file a structure "
            f"({len(several)} such rows), in which no value is void; leave the setting out, or save the labels of a "
            "case as one image"
        )

    notes += [*of_ages, *ages.unlikely(table)]
    frame = pd.concat([pd.DataFrame(columns), others], axis=1).reset_index(drop=True)
    if config["split_column"]:
        cohort.check_no_leak(frame)
    sides = next((table[name] for name in laterality.COLUMNS if name in table), [""] * len(table))
    rows = zip(table.index, table["image"], masks, spacing, map(laterality.parse, sides), strict=True)
    cases = [Case(row, root / image, mask, mm, side) for row, image, mask, mm, side in rows]
    if labels is None:
        labels = _found_labels(path, cases, ignore, prefix)
    mask_files.check_palettes(masks, labels.of_files, _THREADS)
    settings = {
        "kind": "folder",
        "reader": _READER,
        "orientation": orientation.value,
        "files": files,
        "grid": [*size, channels],
        "structures": list(labels.structures),
        "spacing_mm": list(table["spacing_mm"]) if "spacing_mm" in table else None,
        **labels.settings,
    }
    return Source(
        cases=frame,
        structures=labels.structures,
        settings=settings,
        read=partial(_read, root, path, cases, size, channels, labels, orientation),
        portable=True,
        whole=partial(_read, root, path, cases, None, channels, labels, orientation),
        notes=(*notes, *_links(root, cases)),
        files=partial(_files_of, cases),
        void=ignore > 0,
    )


def _masks(
    table: pd.DataFrame,
    root: Path,
    structures: Sequence[str],
    *,
    skip: bool,
    problems: list[metadata.Problem],
) -> list[MaskPath]:
    """The mask of every row: one file, or one file a structure."""
    masks: list[MaskPath] = []
    for row, name in table["mask"].items():
        try:
            masks.append(structure_files.find(root / name, structures) if name else root)
        except InputError as error:
            masks.append(root / name)
            if not skip:  # else `Source.read` leaves the case out
                problems.append((row, f"mask {error}"))
    return masks


def _fingerprints(
    table: pd.DataFrame,
    masks: Sequence[MaskPath],
    root: Path,
    *,
    skip: bool,
    problems: list[metadata.Problem],
) -> list[list[Any]]:
    """Path, bytes and time of change of every image and mask: cheap, and enough to notice a new file."""
    fingerprints = []
    for (row, *names), mask in zip(table[["image", "mask"]].itertuples(), masks, strict=True):
        files = ((root / names[0],), structure_files.files_of(mask))
        for name, column, paths in zip(names, ("image", "mask"), files, strict=True):
            is_there = all(map(limits.is_present, paths))
            if name and (Path(name).is_absolute() or os.path.normpath(name).split(os.sep)[0] == ".."):
                problems.append(
                    (row, f"{column} {name}: write the path relative to data.root, and inside it")
                )
            elif name and not is_there and skip:
                fingerprints.append([name, None, None])  # left to the reading, like any that cannot be read
            elif name and not is_there:
                remedy = "correct the path or remove the row"
                if column == "mask" and not Path(name).suffix:
                    remedy += (
                        f"; one file a structure is called {Path(name).name}_STRUCTURE.png, by the names in "
                        "data.structures, which must not be 'auto'"
                    )
                problems.append((row, f"{column} {root / name}: no such file; {remedy}"))
            elif name:
                for path in paths:
                    stat = path.lstat() if path.is_symlink() and not path.exists() else path.stat()
                    own = name if path == root / name else str(path.relative_to(root))
                    fingerprints.append([own, stat.st_size, stat.st_mtime_ns])
    return fingerprints


def _links(root: Path, cases: Sequence[Case]) -> Iterator[str]:
    """A note where files are reached through symbolic links that lead out of the folder."""
    inside = os.path.realpath(root)
    leaving = [
        (case.row, path)
        for case in cases
        for path in (case.image, *structure_files.files_of(case.mask))
        if os.path.exists(path) and not Path(os.path.realpath(path)).is_relative_to(inside)
    ]
    if leaving:
        row, path = leaving[0]
        yield (
            f"{len(leaving)} files are reached through symbolic links that lead out of data.root (such as row {row}, "
            f"{path.relative_to(root)})"
        )


def _found_labels(path: Path, cases: Sequence[Case], ignore: int, prefix: str) -> LabelMap:
    def of(case: Case) -> int | InputError:
        try:
            values = mask_files.read(case.mask, {}).values
        except InputError as error:
            return error  # `Source.read` says what is wrong with it, if other masks can be read
        return int(values[values != ignore].max(initial=0))

    with ThreadPoolExecutor(_THREADS) as pool:
        results = list(pool.map(of, cases))
    highest = max((result for result in results if isinstance(result, int)), default=0)
    if errors := [result for result in results if isinstance(result, InputError) and not highest]:
        raise errors[0]
    return label_values.found(highest, ignore, prefix, path)


def _arrays(
    case: Case, channels: int, labels: LabelMap, orientation: layouts.Flag
) -> tuple[np.ndarray, np.ndarray, np.ndarray, Inspection]:
    """Image u8[H, W, channels], label u8[H, W] of `label_values`, spacing f32[2], and what the files show besides."""
    if isinstance(case.mask, Path):
        structure_files.find(case.mask, labels.structures)  # names the structure that has no file
    film, mask = readers.read_radiograph(case.image), mask_files.read(case.mask, labels.of_files)
    image, spacing = film.pixels, film.spacing
    mask_path = structure_files.files_of(case.mask)[0]
    files = layouts.File(mask_path, mask.orientation), layouts.File(case.image, film.orientation)
    correction = layouts.mask_to_film(*files, orientation)
    values = correction.apply(mask.values)
    if image.shape[:2] != values.shape:
        raise InputError(
            f"{case.mask}: mask and image differ in size ({values.shape} and {image.shape[:2]} rows and columns); "
            "export both on one grid"
        )
    label = label_values.mapped(values, labels, case.mask)
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
        _inspection(
            case, film, mask._replace(values=values, spacing=correction.of_pair(mask.spacing)), label, labels
        ),
    )


def _inspection(
    case: Case, film: readers.Radiograph, mask: mask_files.Mask, label: np.ndarray, labels: LabelMap
) -> Inspection:
    """What the files of a case show; `mask` is laid out as the film, `label` is its u8[H, W] of `label_values`."""
    side = laterality.contradiction(film.laterality, case.side, "the table")
    notes = [
        *(f"film: {text}" for text in (*film.notes, side) if text),
        *(f"mask: {text}" for text in mask.notes),
        *inspection.spacing_notes(film.spacing, mask.spacing, case.spacing),
    ]
    kind = film.spacing_kind if np.isnan(case.spacing).any() else "table"
    return inspection.of_mask(anatomy.clear_void(label), kind, notes, values=mask.values, void=labels.ignore)


def _files_of(cases: Sequence[Case], row: int) -> tuple[Path, ...]:
    return cases[row].image, *structure_files.files_of(cases[row].mask)


def _read(
    root: Path,
    path: Path,
    cases: Sequence[Case],
    size: tuple[int, int] | None,
    channels: int,
    labels: LabelMap,
    orientation: layouts.Flag,
    rows: Sequence[int],
) -> Iterator[Example | InputError]:
    def load(row: int) -> Example | InputError:
        case = cases[row]
        try:
            image, label, spacing, seen = _arrays(case, channels, labels, orientation)
            if size is None:
                return Example(image, label, spacing, seen)
            small = label_values.resized(label, size, labels, case.mask)
        except InputError as error:
            return InputError(strip_paths(f"{path} row {case.row}: {error}", root))
        scale = np.array(label.shape, np.float32) / np.array(size, np.float32)
        return Example(readers.resize_image(image, size), small, spacing * scale, seen)

    with ThreadPoolExecutor(_THREADS) as pool:
        for few in batched(rows, 4 * _THREADS):  # a pool reads all it is given, so give it little at a time
            yield from pool.map(load, few)
