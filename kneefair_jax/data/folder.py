"""Reads cases from a folder of images, masks and one `metadata.csv` (see `metadata`)."""

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
    annotations,
    column_names,
    inspection,
    label_map,
    mask_files,
    metadata,
    numbered_labels,
    readers,
)
from kneefair_jax.data.inspection import Inspection
from kneefair_jax.data.label_map import CohortLabels
from kneefair_jax.data.mask_files import MaskPath
from kneefair_jax.data.readers import dicom_header, limits, orientation
from kneefair_jax.data.source import Example, Source
from kneefair_jax.errors import InputError
from kneefair_jax.safe_text import strip_paths

_THREADS = 4
# Incremented when readers return other arrays or notes for a file; older stores are prepared again.
_READER_VERSION = 8


class Case(NamedTuple):
    """The files of a case, and what its row of the table states.

    Attributes:
        row: line in metadata.csv.
        image: path of the image.
        mask: path of the mask, or of its files, one a structure.
        spacing: f32[2], mm per pixel by the table; where NaN, the image's header decides.
        side: the knee by the table, of `dicom_header.parse_side`.
        annotated: the structures that the mask shows; () for all.
    """

    row: int
    image: Path
    mask: MaskPath
    spacing: np.ndarray
    side: str = ""
    annotated: tuple[str, ...] = ()


class _Files(NamedTuple):
    """The files of a cohort, and the settings that read them; `Source.read` is pickled with it.

    Attributes:
        root: the folder.
        table: path of metadata.csv.
        cases: a record per row of the source.
        channels: of the images.
        labels: of the masks.
        orientation: the flag of the config.
        annotated_column: of the table; "" for none.
    """

    root: Path
    table: Path
    cases: tuple[Case, ...]
    channels: int
    labels: CohortLabels
    orientation: orientation.Flag
    annotated_column: str


def source(config: Mapping[str, Any], *, size: tuple[int, int], channels: int) -> Source:
    """Return the cases of a folder.

    Checks the table and that every file exists; `Source.read` reads and checks the pixels.

    Args:
        config: `root`, the folder; `metadata`, its table's file name; `structures`, a scheme of
            `anatomy.SCHEMES`, names between commas (`femur,tibia`, or with their values in the masks, `femur=255`), or
            "auto" for those in the masks; `ignore_label`, the value of void pixels, or -1 for none; `prefix` of
            these settings in messages, "data." by default; `attributes`, the columns that define groups; `bins`,
            attribute -> ascending edges, for numbers; `split_column`, or "" for none; `annotated_column`, of the
            structures that a mask shows (`annotations`), or "" where all masks show all; `on_read_error`, "stop", or
            "skip" to leave a missing file to `Source.read`; `orientation`, of `readers.orientation.FLAGS`, for masks
            whose headers, or those of their films, do not settle it, or "" to follow the headers and refuse ambiguous
            pairs; `allow_similar_ids`, whether identifiers and levels may look alike.
        size: rows and columns at working resolution.
        channels: 1 (color becomes gray) or 3.

    Raises:
        InputError: the table or a file is unusable; with the first five problems and their number.
    """
    if not config["root"]:
        raise InputError("config.data.root is empty: give the folder with --config.data.root=DIR")
    prefix = config.get("prefix", "data.")
    flag = orientation.checked_flag(orientation.Flag(config.get("orientation", ""), f"{prefix}orientation"))
    table, cases, fingerprints, labels = _checked_files(config, prefix)
    annotated_column = config.get("annotated_column", "")
    files = _Files(Path(config["root"]), table.path, cases, channels, labels, flag, annotated_column)
    annotated = {annotations.COLUMN: [case.annotated for case in cases]} if annotated_column else {}
    settings = {
        "kind": "folder",
        "reader": _READER_VERSION,
        "orientation": flag.value,
        "files": fingerprints,
        "grid": [*size, channels],
        "structures": list(labels.structures),
        "spacing_mm": list(table.cells["spacing_mm"]) if "spacing_mm" in table.cells else None,
        **labels.settings,
        **annotated,
    }
    return Source(
        cases=table.cases.assign(**annotated),
        structures=labels.structures,
        settings=settings,
        read=partial(_read, files, size),
        portable=True,
        read_native=partial(_read, files, None),
        notes=(
            *table.notes,
            *ages.implausible_age_notes(table.cells),
            *_outside_link_notes(files.root, cases),
        ),
        files=partial(_case_files, cases),
        void=labels.ignore > 0,
    )


def _checked_files(
    config: Mapping[str, Any], prefix: str
) -> tuple["_CheckedTable", tuple[Case, ...], list[list[Any]], CohortLabels]:
    """Return the table, a record per row, the files' fingerprints and the label map, which `auto` takes from the masks.

    The checks need no pixels, unless the label map is `auto`.
    """
    ignore = config.get("ignore_label", -1)
    is_auto = config["structures"] == label_map.AUTO
    labels = None if is_auto else label_map.parse_setting(config["structures"], ignore, prefix)
    root = Path(config["root"])
    table = _read_table(root / config["metadata"], config)
    skip = config["on_read_error"] == "skip"
    masks = _masks(table.cells, root, labels.structures if labels else (), skip=skip, problems=table.problems)
    fingerprints = _fingerprints(table.cells, masks, root, skip=skip, problems=table.problems)
    metadata.refuse(table.path, table.problems)
    if ignore > 0:
        _require_single_files(table.cells, masks, table.path, f"config.{prefix}ignore_label={ignore}")
    if config["split_column"]:
        cohort.check_no_leak(table.cases)
    if labels is None:
        labels = numbered_labels.read(masks, ignore, prefix, table.path)
    annotated: list[tuple[str, ...]] = [()] * len(masks)
    if column := config.get("annotated_column", ""):
        annotated = annotations.parse(table.cells[column], labels.structures, table.problems)
        metadata.refuse(table.path, table.problems)
    cases = _case_records(table, masks, annotated, root)
    mask_files.check_palettes(masks, labels.mask_values, _THREADS)
    return table, cases, fingerprints, labels


def _case_records(
    table: "_CheckedTable", masks: Sequence[MaskPath], annotated: Sequence[tuple[str, ...]], root: Path
) -> tuple[Case, ...]:
    cells = table.cells
    sides = next((cells[name] for name in dicom_header.SIDE_COLUMNS if name in cells), [""] * len(cells))
    rows = zip(cells.index, cells["image"], masks, table.spacing, sides, annotated, strict=True)
    return tuple(
        Case(row, root / image, mask, mm, dicom_header.parse_side(side), names)
        for row, image, mask, mm, side, names in rows
    )


class _CheckedTable(NamedTuple):
    """The table of a folder, after all checks but those of its files.

    Attributes:
        path: the file.
        cells: text on the lines of the file.
        cases: the table of the source.
        spacing: f32[N, 2], mm per pixel.
        notes: on how the table was read.
        problems: lines of the file, and what is wrong with them.
    """

    path: Path
    cells: pd.DataFrame
    cases: pd.DataFrame
    spacing: np.ndarray
    notes: list[str]
    problems: list[metadata.Problem]


def _read_table(path: Path, config: Mapping[str, Any]) -> _CheckedTable:
    cells, written, notes, _ = metadata.read(path)
    cells, age_notes = metadata.with_ages(cells, path, config["attributes"])
    _require_columns(cells, path, config)
    notes += metadata.word_notes(written, config["attributes"])
    problems: list[metadata.Problem] = []
    options = metadata.Options(allow_similar=config.get("allow_similar_ids", False))
    cases, confounders, spacing = metadata.case_columns(
        cells, config["attributes"], config["bins"], problems, metadata.REQUIRED, options
    )
    if config["split_column"]:
        cases = cases.assign(split=metadata.splits(cells[config["split_column"]], problems))
    frame = pd.concat([cases, confounders], axis=1).reset_index(drop=True)
    return _CheckedTable(path, cells, frame, spacing, notes + age_notes, problems)


def _require_columns(table: pd.DataFrame, path: Path, config: Mapping[str, Any]) -> None:
    """Require the columns of `metadata.REQUIRED`, and those that the config names."""
    columns = ", ".join(table.columns)
    for name in metadata.REQUIRED:
        if name not in table:
            hint = " (repeat case_id in it if no two cases share a patient)" if name == "patient_id" else ""
            near = column_names.suggestion(name, table.columns)
            raise InputError(f"{path}: column {name!r} is missing{near}; add it{hint}; columns: {columns}")
    attributes = tuple(config["attributes"])
    not_attributes = (*metadata.REQUIRED, "split", "spacing_mm", config.get("annotated_column", ""))
    candidates = [name for name in table.columns if name not in not_attributes]
    for name in attributes:
        if name not in candidates:
            raise InputError(
                f"{path}: data.attributes names {name!r}, which is not an attribute column"
                f"{column_names.suggestion(name, candidates)}; these are: {', '.join(candidates)} (several "
                f"are written \"('sex','age')\")"
            )
        if attributes.count(name) > 1:
            raise InputError(f"{path}: data.attributes names {name!r} twice")
    for field in ("split_column", "annotated_column"):
        column = config.get(field, "")
        if column and column not in table:
            raise InputError(f"{path}: data.{field} is {column!r}; set it to '' or one of: {columns}")


def _require_single_files(table: pd.DataFrame, masks: Sequence[MaskPath], path: Path, setting: str) -> None:
    """Refuse masks of one file a structure beside a void label, which such files cannot have."""
    rows = [row for row, mask in zip(table.index, masks, strict=True) if not isinstance(mask, Path)]
    if rows:
        raise InputError(
            f"{setting}: the mask of {path} row {rows[0]} has one file a structure ({len(rows)} such rows), in which "
            "no value is void; remove the setting, or save the labels of a case as one image"
        )


def _masks(
    table: pd.DataFrame,
    root: Path,
    structures: Sequence[str],
    *,
    skip: bool,
    problems: list[metadata.Problem],
) -> list[MaskPath]:
    """Return the mask of every row: one file, or one file a structure."""
    masks: list[MaskPath] = []
    for row, name in table["mask"].items():
        try:
            masks.append(mask_files.find_mask(root / name, structures) if name else root)
        except InputError as error:
            masks.append(root / name)
            if not skip:  # with `skip`, `Source.read` excludes the case
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
    """Return path, bytes and modification time of every image and mask: cheap, and enough to detect a new file."""
    fingerprints = []
    for (row, *names), mask in zip(table[["image", "mask"]].itertuples(), masks, strict=True):
        files = ((root / names[0],), mask_files.mask_paths(mask))
        for name, column, paths in zip(names, ("image", "mask"), files, strict=True):
            is_present = all(map(limits.is_present, paths))
            if name and (Path(name).is_absolute() or os.path.normpath(name).split(os.sep)[0] == ".."):
                problems.append(
                    (row, f"{column} {name}: write the path relative to data.root, and inside it")
                )
            elif name and not is_present and skip:
                fingerprints.append([name, None, None])  # `Source.read` reports it, like any unreadable file
            elif name and not is_present:
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
                    relative = name if path == root / name else str(path.relative_to(root))
                    fingerprints.append([relative, stat.st_size, stat.st_mtime_ns])
    return fingerprints


def _outside_link_notes(root: Path, cases: Sequence[Case]) -> Iterator[str]:
    """Yield a note if symbolic links lead to files outside the folder."""
    real_root = os.path.realpath(root)
    outside_files = [
        (case.row, path)
        for case in cases
        for path in (case.image, *mask_files.mask_paths(case.mask))
        if os.path.exists(path) and not Path(os.path.realpath(path)).is_relative_to(real_root)
    ]
    if outside_files:
        row, path = outside_files[0]
        yield (
            f"{len(outside_files)} files are reached through symbolic links that lead out of data.root (such as row "
            f"{row}, {path.relative_to(root)})"
        )


def _read_case(case: Case, files: _Files) -> Example:
    """Read a case at native resolution."""
    labels = files.labels
    if isinstance(case.mask, Path):
        mask_files.find_mask(case.mask, labels.structures)  # reports a structure without a file
    film, mask = readers.read_radiograph(case.image), mask_files.read(case.mask, labels.mask_values)
    mask_file = orientation.File(mask_files.mask_paths(case.mask)[0], mask.orientation)
    correction = orientation.mask_to_film(
        mask_file, orientation.File(case.image, film.orientation), files.orientation
    )
    mask = mask._replace(values=correction.apply(mask.values), spacing=correction.of_pair(mask.spacing))
    if film.pixels.shape[:2] != mask.values.shape:
        raise InputError(
            f"{case.mask}: mask and image differ in size ({mask.values.shape} and {film.pixels.shape[:2]} rows and "
            "columns); export both on one grid"
        )
    label = labels.to_labels(mask.values, case.mask)
    annotations.check_mask(label, case.annotated, labels.structures, case.mask, files.annotated_column)
    image = readers.to_uint8(film.pixels, valid=film.valid)
    if files.channels == 1:
        image = readers.to_gray(image)
    if image.shape[2] != files.channels:
        raise InputError(
            f"{case.image}: has {image.shape[2]} channel, not {files.channels}; set channels to 1, or give color images"
        )
    spacing = np.where(np.isnan(case.spacing), film.spacing, case.spacing)
    return Example(image, label, spacing, _inspect(case, film, mask, label, labels))


def _inspect(
    case: Case, film: readers.Radiograph, mask: readers.Mask, label: np.ndarray, labels: CohortLabels
) -> Inspection:
    """Inspect the files of a case; `mask` is oriented as the film, `label` is its u8[H, W]."""
    side = dicom_header.contradiction(film.laterality, case.side, "the table")
    notes = [
        *(f"film: {text}" for text in (*film.notes, side) if text),
        *(f"mask: {text}" for text in mask.notes),
        *inspection.spacing_notes(
            film.spacing, mask.spacing, case.spacing, (film.spacing_kind, mask.spacing_kind)
        ),
    ]
    kind = film.spacing_kind if np.isnan(case.spacing).any() else "table"
    return inspection.inspect_mask(
        anatomy.clear_void(label), kind, notes, values=mask.values, void=labels.ignore
    )


def _case_files(cases: Sequence[Case], row: int) -> tuple[Path, ...]:
    return cases[row].image, *mask_files.mask_paths(cases[row].mask)


def _read(files: _Files, size: tuple[int, int] | None, rows: Sequence[int]) -> Iterator[Example | InputError]:
    """Read rows at native resolution, or at a working resolution of `size`."""

    def load(row: int) -> Example | InputError:
        case = files.cases[row]
        try:
            example = _read_case(case, files)
            if size is None:
                return example
            label = files.labels.resize(example.label, size, case.mask)
        except InputError as error:
            return InputError(strip_paths(f"{files.table} row {case.row}: {error}", files.root))
        scale = np.array(example.label.shape, np.float32) / np.array(size, np.float32)
        image = readers.resize_image(example.image, size)
        return Example(image, label, example.spacing * scale, example.inspection)

    with ThreadPoolExecutor(_THREADS) as pool:
        for batch in batched(rows, 4 * _THREADS):  # `map` reads its whole argument, so give it a small batch
            yield from pool.map(load, batch)
