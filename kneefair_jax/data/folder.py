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
    file_lookup,
    inspection,
    label_values,
    layouts,
    mask_files,
    metadata,
    readers,
)
from kneefair_jax.data.inspection import Inspection
from kneefair_jax.data.label_values import LabelMap
from kneefair_jax.data.mask_files import MaskPath
from kneefair_jax.data.readers import laterality, limits
from kneefair_jax.data.source import Example, Source
from kneefair_jax.errors import InputError
from kneefair_jax.safe_text import strip_paths

_THREADS = 4
_READER_VERSION = (
    6  # incremented when readers return other arrays for a file; older stores are prepared again
)


class Case(NamedTuple):
    """The files of a case, and what its row of the table states.

    Attributes:
        row: line in metadata.csv.
        image: path of the image.
        mask: path of the mask, or of its files, one a structure.
        spacing: f32[2], mm per pixel by the table; where NaN, the image's header decides.
        side: the knee by the table, of `laterality.parse`.
    """

    row: int
    image: Path
    mask: MaskPath
    spacing: np.ndarray
    side: str = ""


class _Files(NamedTuple):
    """The files of a cohort, and the settings that read them; `Source.read` is pickled with it.

    Attributes:
        root: the folder.
        table: path of metadata.csv.
        cases: a record per row of the source.
        channels: of the images.
        labels: of the masks.
        orientation: the flag of the config.
    """

    root: Path
    table: Path
    cases: tuple[Case, ...]
    channels: int
    labels: LabelMap
    orientation: layouts.Flag


def source(config: Mapping[str, Any], *, size: tuple[int, int], channels: int) -> Source:
    """Return the cases of a folder.

    Checks the table and that every file exists; `Source.read` reads and checks the pixels.

    Args:
        config: `root`, the folder; `metadata`, its table's file name; `structures`, a scheme of
            `anatomy.SCHEMES`, names between commas (`femur,tibia`, or with their values in the masks, `femur=255`), or
            "auto" for those in the masks; `ignore_label`, the value of void pixels, or -1 for none; `prefix` of
            these settings in messages, "data." by default; `attributes`, the columns that define groups; `bins`,
            attribute -> ascending edges, for numbers; `split_column`, or "" for none; `on_read_error`, "stop", or
            "skip" to leave a missing file to `Source.read`; `orientation`, a name of `layouts.FLAGS` for masks whose
            headers, or those of their films, do not settle it, or "" to follow the headers and refuse ambiguous pairs;
            `allow_similar_ids`, whether identifiers and levels may look alike.
        size: rows and columns at working resolution.
        channels: 1 (color becomes gray) or 3.

    Raises:
        InputError: the table or a file is unusable; with the first five problems and their number.
    """
    if not config["root"]:
        raise InputError("config.data.root is empty: give the folder with --config.data.root=DIR")
    ignore, prefix = config.get("ignore_label", -1), config.get("prefix", "data.")
    orientation = layouts.checked(layouts.Flag(config.get("orientation", ""), f"{prefix}orientation"))
    is_auto = config["structures"] == label_values.AUTO
    labels = None if is_auto else label_values.parse(config["structures"], ignore, prefix)
    root = Path(config["root"])
    path = root / config["metadata"]
    table, frame, spacing, notes, problems = _read_table(path, config)
    skip = config["on_read_error"] == "skip"
    masks = _masks(table, root, labels.structures if labels else (), skip=skip, problems=problems)
    fingerprints = _fingerprints(table, masks, root, skip=skip, problems=problems)
    metadata.refuse(path, problems)
    if ignore > 0:
        _require_single_files(table, masks, path, f"config.{prefix}ignore_label={ignore}")
    if config["split_column"]:
        cohort.check_no_leak(frame)
    sides = next((table[name] for name in laterality.COLUMNS if name in table), [""] * len(table))
    rows = zip(table.index, table["image"], masks, spacing, map(laterality.parse, sides), strict=True)
    cases = tuple(Case(row, root / image, mask, mm, side) for row, image, mask, mm, side in rows)
    if labels is None:
        labels = _labels_in_masks(path, cases, ignore, prefix)
    mask_files.check_palettes(masks, labels.mask_values, _THREADS)
    settings = {
        "kind": "folder",
        "reader": _READER_VERSION,
        "orientation": orientation.value,
        "files": fingerprints,
        "grid": [*size, channels],
        "structures": list(labels.structures),
        "spacing_mm": list(table["spacing_mm"]) if "spacing_mm" in table else None,
        **labels.settings,
    }
    files = _Files(root, path, cases, channels, labels, orientation)
    return Source(
        cases=frame,
        structures=labels.structures,
        settings=settings,
        read=partial(_read, files, size),
        portable=True,
        read_native=partial(_read, files, None),
        notes=(*notes, *ages.implausible_age_notes(table), *_outside_link_notes(root, cases)),
        files=partial(_case_files, cases),
        void=ignore > 0,
    )


class _CheckedTable(NamedTuple):
    """The table of a folder, after all checks but those of its files.

    Attributes:
        cells: text on the lines of the file.
        cases: the table of the source.
        spacing: f32[N, 2], mm per pixel.
        notes: on how the table was read.
        problems: lines of the file, and what is wrong with them.
    """

    cells: pd.DataFrame
    cases: pd.DataFrame
    spacing: np.ndarray
    notes: list[str]
    problems: list[metadata.Problem]


def _read_table(path: Path, config: Mapping[str, Any]) -> _CheckedTable:
    cells, written, notes = metadata.read(path)
    cells, age_notes = metadata.with_ages(cells, path, config["attributes"])
    metadata.require_columns(cells, path, config)
    notes += metadata.word_notes(written, config["attributes"])
    problems: list[metadata.Problem] = []
    options = metadata.Options(allow_similar=config.get("allow_similar_ids", False))
    metadata.check_identifiers(cells, problems, options=options)
    columns = {name: cells[name] for name in ("case_id", "patient_id")}
    for name in config["attributes"]:
        columns[name] = metadata.attribute(cells[name], config["bins"].get(name), problems, options)
        metadata.check_merged(cells, name, problems)
    if config["split_column"]:
        columns["split"] = metadata.splits(cells[config["split_column"]], problems)
    confounders = metadata.confounders(cells, config["attributes"], problems, options)
    spacing = metadata.spacings(cells, problems)
    frame = pd.concat([pd.DataFrame(columns), confounders], axis=1).reset_index(drop=True)
    return _CheckedTable(cells, frame, spacing, notes + age_notes, problems)


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
            masks.append(file_lookup.find_mask(root / name, structures) if name else root)
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
        files = ((root / names[0],), file_lookup.mask_paths(mask))
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
        for path in (case.image, *file_lookup.mask_paths(case.mask))
        if os.path.exists(path) and not Path(os.path.realpath(path)).is_relative_to(real_root)
    ]
    if outside_files:
        row, path = outside_files[0]
        yield (
            f"{len(outside_files)} files are reached through symbolic links that lead out of data.root (such as row "
            f"{row}, {path.relative_to(root)})"
        )


def _labels_in_masks(path: Path, cases: Sequence[Case], ignore: int, prefix: str) -> LabelMap:
    def highest_value(case: Case) -> int | InputError:
        try:
            values = mask_files.read(case.mask, {}).values
        except InputError as error:
            return error  # `Source.read` reports it, if other masks are readable
        return int(values[values != ignore].max(initial=0))

    with ThreadPoolExecutor(_THREADS) as pool:
        results = list(pool.map(highest_value, cases))
    highest = max((result for result in results if isinstance(result, int)), default=0)
    if errors := [result for result in results if isinstance(result, InputError) and not highest]:
        raise errors[0]
    return label_values.numbered_up_to(highest, ignore, prefix, path)


def _read_case(case: Case, files: _Files) -> Example:
    """Read a case at native resolution."""
    labels = files.labels
    if isinstance(case.mask, Path):
        file_lookup.find_mask(case.mask, labels.structures)  # reports a structure without a file
    film, mask = readers.read_radiograph(case.image), mask_files.read(case.mask, labels.mask_values)
    mask_file = layouts.File(file_lookup.mask_paths(case.mask)[0], mask.orientation)
    correction = layouts.mask_to_film(
        mask_file, layouts.File(case.image, film.orientation), files.orientation
    )
    mask = mask._replace(values=correction.apply(mask.values), spacing=correction.of_pair(mask.spacing))
    if film.pixels.shape[:2] != mask.values.shape:
        raise InputError(
            f"{case.mask}: mask and image differ in size ({mask.values.shape} and {film.pixels.shape[:2]} rows and "
            "columns); export both on one grid"
        )
    label = label_values.to_labels(mask.values, labels, case.mask)
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
    case: Case, film: readers.Radiograph, mask: mask_files.Mask, label: np.ndarray, labels: LabelMap
) -> Inspection:
    """Inspect the files of a case; `mask` is oriented as the film, `label` is its u8[H, W] of `label_values`."""
    side = laterality.contradiction(film.laterality, case.side, "the table")
    notes = [
        *(f"film: {text}" for text in (*film.notes, side) if text),
        *(f"mask: {text}" for text in mask.notes),
        *inspection.spacing_notes(film.spacing, mask.spacing, case.spacing),
    ]
    kind = film.spacing_kind if np.isnan(case.spacing).any() else "table"
    return inspection.inspect_mask(
        anatomy.clear_void(label), kind, notes, values=mask.values, void=labels.ignore
    )


def _case_files(cases: Sequence[Case], row: int) -> tuple[Path, ...]:
    return cases[row].image, *file_lookup.mask_paths(cases[row].mask)


def _read(files: _Files, size: tuple[int, int] | None, rows: Sequence[int]) -> Iterator[Example | InputError]:
    """Read rows at native resolution, or at a working resolution of `size`."""

    def load(row: int) -> Example | InputError:
        case = files.cases[row]
        try:
            example = _read_case(case, files)
            if size is None:
                return example
            label = label_values.resize(example.label, size, files.labels, case.mask)
        except InputError as error:
            return InputError(strip_paths(f"{files.table} row {case.row}: {error}", files.root))
        scale = np.array(example.label.shape, np.float32) / np.array(size, np.float32)
        image = readers.resize_image(example.image, size)
        return Example(image, label, example.spacing * scale, example.inspection)

    with ThreadPoolExecutor(_THREADS) as pool:
        for batch in batched(rows, 4 * _THREADS):  # `map` reads its whole argument, so give it a small batch
            yield from pool.map(load, batch)
