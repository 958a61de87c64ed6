"""Cases from a folder: images, masks and one `metadata.csv`.

The table has a row per case with the columns `case_id`, `patient_id`, `image` and `mask` (paths relative to
the folder), any attribute columns, and optionally `spacing_mm` (`0.3`, or `0.3x0.2` for down x across) and a
split.
Empty cells, `NA`, `N/A`, `NaN`, `null` and `missing` mean missing; `none` is a level like any other.
"""

import csv
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import batched
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from PIL import Image

from kneefair_jax import anatomy, cohort, groups
from kneefair_jax.data import readers
from kneefair_jax.data.source import Example, Source
from kneefair_jax.errors import InputError

REQUIRED = ("case_id", "patient_id", "image", "mask")
_MISSING_TEXT = {"", "na", "n/a", "nan", "null", groups.MISSING}
_SPLITS = {"train": "train", "validation": "validation", "val": "validation", "test": "test"}
# A number with more levels than this is a measurement, not a code.
_MAX_CODES = 10
# Masks of 0 and 255 would otherwise pass for 255 structures.
_MAX_FOUND = 32
_THREADS = 4

# A line of metadata.csv (the header is line 1) and what is wrong with it.
_Problem = tuple[int, str]


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

    Checks the table and that every file is there; `Source.check` reads the pixels.

    Args:
        config: `root`, the folder; `metadata`, its table's file name; `structures`, a scheme of
            `anatomy.SCHEMES`, names between commas, or "auto" for those found in the masks; `attributes`, the
            columns that define groups; `bins`, attribute -> ascending edges, for numbers; `split_column`, or
            "" for none.
        size: rows and columns of the working grid.
        channels: 1 (colour becomes grey) or 3.

    Raises:
        InputError: the table or a file cannot be used; the first five problems, and how many there are.
    """
    root = Path(config["root"])
    metadata = root / config["metadata"]
    table = _read_table(metadata)
    _require_columns(table, metadata, config)
    problems: list[_Problem] = []
    _check_identifiers(table, problems)
    columns = {name: table[name] for name in ("case_id", "patient_id")}
    for name in config["attributes"]:
        columns[name] = _attribute(table[name], config["bins"].get(name), problems)
    if config["split_column"]:
        columns["split"] = _splits(table[config["split_column"]], problems)
    spacing = _spacings(table, problems)
    files = _fingerprints(table, root, problems)
    _refuse(metadata, problems)

    frame = pd.DataFrame(columns).reset_index(drop=True)
    if config["split_column"]:
        cohort.check_no_leak(frame)
    paths = zip(table.index, table["image"], table["mask"], spacing, strict=True)
    cases = [Case(row, root / image, root / mask, mm) for row, image, mask, mm in paths]
    structures = (
        _found_structures(metadata, cases)
        if config["structures"] == "auto"
        else anatomy.parse(config["structures"])
    )
    settings = {
        "kind": "folder",
        "files": files,
        "grid": [*size, channels],
        "structures": list(structures),
        "spacing_mm": list(table["spacing_mm"]) if "spacing_mm" in table else None,
    }
    return Source(
        cases=frame,
        structures=structures,
        settings=settings,
        examples=partial(_examples, cases, size, channels, len(structures)),
        check=partial(check_pixels, metadata, cases, channels, len(structures)),
    )


def check_pixels(metadata: Path, cases: Sequence[Case], channels: int, structures: int) -> None:
    """Reads every image and mask once.

    Args:
        metadata: the table's path, for the message.
        cases: what to read.
        channels: wanted number of channels.
        structures: highest label that a mask may hold.

    Raises:
        InputError: a file is unreadable, an image and its mask differ in size, an image's channels do not
            fit, or a label lies outside the scheme; the first five problems, and how many there are.
    """

    def check(case: Case) -> None:
        _arrays(case, channels, structures)

    _each(metadata, cases, check)


def _each(metadata: Path, cases: Sequence[Case], function: Callable[[Case], Any]) -> list[Any]:
    """`function` of every case, in threads; what goes wrong is collected over all of them."""

    def attempt(case: Case) -> tuple[Any, list[_Problem]]:
        try:
            return function(case), []
        except InputError as error:
            return None, [(case.row, str(error))]

    with ThreadPoolExecutor(_THREADS) as pool:
        outcomes = list(pool.map(attempt, cases))
    _refuse(metadata, [problem for _, problems in outcomes for problem in problems])
    return [result for result, _ in outcomes]


def _refuse(metadata: Path, problems: Sequence[_Problem]) -> None:
    if not problems:
        return
    lines = [f"{metadata} row {row}: {text}" for row, text in sorted(problems)[:5]]
    if len(problems) > 1:
        lines.insert(0, f"{metadata}: {len(problems)} problems, of which the first {len(lines)}:")
    raise InputError("\n".join(lines))


def _read_table(path: Path) -> pd.DataFrame:
    """Every cell as text, "" where it is missing; the index is the line in the file.

    Python's own reader, since pandas fills short rows and shifts long ones without a word.
    """
    if not path.is_file():
        raise InputError(f"{path}: no such file; set data.root and data.metadata to the table of cases")
    rows: dict[int, list[str]] = {}
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.reader(file, strict=True)
            header = [name.strip() for name in next(reader, [])]
            for cells in reader:
                if any(cell.strip() for cell in cells):
                    rows[reader.line_num] = [cell.strip() for cell in cells]
    except (csv.Error, UnicodeDecodeError) as error:
        raise InputError(f"{path}: malformed CSV ({error}); save it as UTF-8 text with commas") from error
    if not rows or len(set(header)) < len(header):
        raise InputError(
            f"{path}: malformed CSV; line 1 names the columns, each once, and each further line is a case"
        )
    ragged = [(row, len(cells)) for row, cells in rows.items() if len(cells) != len(header)]
    remedy = f"cells under {len(header)} columns; add what is missing, or quote a cell that holds a comma"
    _refuse(path, [(row, f"malformed CSV: {count} {remedy}") for row, count in ragged])
    table = pd.DataFrame.from_dict(rows, orient="index", columns=header, dtype=str)
    return table.map(lambda cell: "" if cell.lower() in _MISSING_TEXT else cell)


def _require_columns(table: pd.DataFrame, metadata: Path, config: Mapping[str, Any]) -> None:
    columns = ", ".join(table.columns)
    for name in REQUIRED:
        if name not in table:
            hint = " (repeat case_id in it if no two cases share a patient)" if name == "patient_id" else ""
            raise InputError(f"{metadata}: column {name!r} is missing; add it{hint}; there are: {columns}")
    attributes = tuple(config["attributes"])
    for name in attributes:
        if name not in table or name in REQUIRED or name == "split" or attributes.count(name) > 1:
            raise InputError(
                f"{metadata}: data.attributes names {name!r}, which is not an attribute column, or twice; "
                f"there are: {columns}"
            )
    if config["split_column"] and config["split_column"] not in table:
        raise InputError(
            f"{metadata}: data.split_column is {config['split_column']!r}; set it to '' or one of: {columns}"
        )


def _check_identifiers(table: pd.DataFrame, problems: list[_Problem]) -> None:
    for name in REQUIRED:
        problems += [(row, f"{name} is empty; fill it in") for row in table.index[table[name] == ""]]
    first: dict[str, int] = {}
    for row, case in table["case_id"].items():
        if case and first.setdefault(case, row) != row:
            problems.append((row, f"case_id {case!r} is also in row {first[case]}; give each case its own"))


def _attribute(values: pd.Series, edges: Sequence[float] | None, problems: list[_Problem]) -> pd.Series:
    """A column of text -> a categorical one, in bins where `edges` are given."""
    numbers = pd.to_numeric(values.where(values != "", None), errors="coerce").astype(float)
    numbers = numbers.where(np.isfinite(numbers))
    given = values != ""
    if not given.any():
        problems.append((1, f"column {values.name!r} is empty; fill it in or drop it from data.attributes"))
    if edges is not None:
        for row in values.index[given & numbers.isna()]:
            text = f"{values.name} {values[row]!r} is not a number; correct it, or leave it empty if unknown"
            problems.append((row, text))
        return groups.binned(numbers, edges)
    if given.any() and numbers[given].notna().all() and numbers[given].nunique() > _MAX_CODES:
        text = (
            f"column {values.name!r} holds {numbers[given].nunique()} different numbers; set data.bins for it"
        )
        problems.append((1, text))
    return groups.categorical(values)


def _splits(values: pd.Series, problems: list[_Problem]) -> pd.Series:
    for row, value in values.items():
        if value.lower() not in _SPLITS:
            problems.append((row, f"split {value!r} is unknown; use train, validation (or val) or test"))
    return values.str.lower().map(_SPLITS)


def _spacings(table: pd.DataFrame, problems: list[_Problem]) -> np.ndarray:
    """f32[N, 2] mm per pixel, NaN where the table does not say."""
    spacing = np.full((len(table), 2), np.nan, np.float32)
    for index, (row, text) in enumerate(table.get("spacing_mm", pd.Series(dtype=str)).items()):
        if text:
            try:
                values = [float(number) for number in text.lower().split("x")]
            except ValueError:
                values = []
            if len(values) in (1, 2) and all(0 < value < np.inf for value in values):
                spacing[index] = values
            else:
                problems.append(
                    (
                        row,
                        f"spacing_mm {text!r} is not positive mm per pixel; write 0.3, 0.3x0.2 or nothing",
                    )
                )
    return spacing


def _fingerprints(table: pd.DataFrame, root: Path, problems: list[_Problem]) -> list[list[Any]]:
    """Path, bytes and time of change of every image and mask: cheap, and enough to notice a new file."""
    fingerprints = []
    for row, *names in table[["image", "mask"]].itertuples():
        for name, column in zip(names, ("image", "mask"), strict=True):
            path = root / name
            if name and Path(name).is_absolute():
                problems.append((row, f"{column} {name}: write the path relative to data.root"))
            elif name and not path.is_file():
                problems.append((row, f"{column} {path}: no such file; correct the path or remove the row"))
            elif name:
                stat = path.stat()
                fingerprints.append([name, stat.st_size, stat.st_mtime_ns])
    return fingerprints


def _found_structures(metadata: Path, cases: Sequence[Case]) -> tuple[str, ...]:
    highest = max(_each(metadata, cases, lambda case: int(readers.read_mask(case.mask).max())))
    if not 1 <= highest <= _MAX_FOUND:
        raise InputError(
            f"{metadata}: the highest label in the masks is {highest}; number the structures 1, 2, ... "
            "(a mask of 0 and 255 becomes 0 and 1), or name them in data.structures"
        )
    return tuple(f"structure {label}" for label in range(1, highest + 1))


def _arrays(case: Case, channels: int, structures: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Image u8[H, W, channels], label u8[H, W] and spacing f32[2] as stored, or an InputError."""
    image, spacing = readers.read_image(case.image)
    label = readers.read_mask(case.mask)
    if image.shape[:2] != label.shape:
        raise InputError(
            f"{case.mask}: the mask has {label.shape} rows and columns, its image {case.image.name} has "
            f"{image.shape[:2]}; export both on one grid"
        )
    if label.min() < 0 or label.max() > structures:
        outside = label.max() if label.max() > structures else label.min()
        raise InputError(
            f"{case.mask}: label {outside} is outside the scheme 0-{structures}; renumber the mask or "
            "name the structure in data.structures"
        )
    image = readers.to_uint8(image)
    if channels == 1 and image.shape[2] == 3:
        image = np.asarray(Image.fromarray(image).convert("L"))[..., None]
    if image.shape[2] != channels:
        raise InputError(
            f"{case.image}: has {image.shape[2]} channel, {channels} are wanted; set channels to 1, "
            "or give colour images"
        )
    return image, label.astype(np.uint8), np.where(np.isnan(case.spacing), spacing, case.spacing)


def _examples(
    cases: Sequence[Case], size: tuple[int, int], channels: int, structures: int
) -> Iterator[Example]:
    def load(case: Case) -> Example:
        image, label, spacing = _arrays(case, channels, structures)
        scale = np.array(label.shape, np.float32) / np.array(size, np.float32)
        return Example(
            readers.resize_image(image, size),
            readers.resize_label(label, size, structures + 1),
            spacing * scale,
        )

    with ThreadPoolExecutor(_THREADS) as pool:
        for few in batched(cases, 4 * _THREADS):  # a pool reads all it is given, so give it little at a time
            yield from pool.map(load, few)
