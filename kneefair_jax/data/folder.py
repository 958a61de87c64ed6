"""Cases from a folder: images, masks and one `metadata.csv` (see `metadata`)."""

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import batched
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from kneefair_jax import anatomy, cohort
from kneefair_jax.data import metadata, readers
from kneefair_jax.data.source import Example, Source
from kneefair_jax.errors import InputError

# Masks of 0 and 255 would otherwise pass for 255 structures.
_MAX_FOUND = 32
_THREADS = 4
_READER = 2  # counts changes of what readers make of a file; a store of an earlier one is prepared anew


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
            of `readers.ORIENTATIONS` that every mask is laid out by, or "" to follow the headers alone.
        size: rows and columns of the working grid.
        channels: 1 (colour becomes grey) or 3.

    Raises:
        InputError: the table or a file cannot be used; the first five problems, and how many there are.
    """
    if not config["root"]:
        raise InputError("config.data.root is empty: give the folder with --config.data.root=DIR")
    orientation = config.get("orientation", "")
    if orientation and orientation not in readers.ORIENTATIONS:
        raise InputError(
            f"config.data.orientation={orientation!r}: give one of {', '.join(readers.ORIENTATIONS)}, or nothing"
        )
    root = Path(config["root"])
    path = root / config["metadata"]
    table = metadata.read(path)
    metadata.require_columns(table, path, config)
    problems: list[metadata.Problem] = []
    metadata.check_identifiers(table, problems)
    columns = {name: table[name] for name in ("case_id", "patient_id")}
    for name in config["attributes"]:
        columns[name] = metadata.attribute(table[name], config["bins"].get(name), problems)
    if config["split_column"]:
        columns["split"] = metadata.splits(table[config["split_column"]], problems)
    spacing = metadata.spacings(table, problems)
    files = _fingerprints(table, root, skip=config["on_broken"] == "skip", problems=problems)
    metadata.refuse(path, problems)

    others = metadata.confounders(table, config["attributes"])
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
        read=partial(_read, path, cases, size, channels, len(structures), orientation),
        portable=True,
        whole=partial(_read, path, cases, None, channels, len(structures), orientation),
        notes=tuple(metadata.unlikely_ages(table)),
    )


def _fingerprints(
    table: pd.DataFrame, root: Path, *, skip: bool, problems: list[metadata.Problem]
) -> list[list[Any]]:
    """Path, bytes and time of change of every image and mask: cheap, and enough to notice a new file."""
    fingerprints = []
    for row, *names in table[["image", "mask"]].itertuples():
        for name, column in zip(names, ("image", "mask"), strict=True):
            path = root / name
            if name and Path(name).is_absolute():
                problems.append((row, f"{column} {name}: write the path relative to data.root"))
            elif name and not path.is_file() and skip:
                fingerprints.append([name, None, None])  # left to the reading, like any that cannot be read
            elif name and not path.is_file():
                problems.append((row, f"{column} {path}: no such file; correct the path or remove the row"))
            elif name:
                stat = path.stat()
                fingerprints.append([name, stat.st_size, stat.st_mtime_ns])
    return fingerprints


def _found_structures(path: Path, cases: Sequence[Case]) -> tuple[str, ...]:
    def of(case: Case) -> int:
        try:
            return int(readers.read_mask(case.mask).max())
        except InputError:
            return 0  # `Source.read` says what is wrong with it

    with ThreadPoolExecutor(_THREADS) as pool:
        highest = max(pool.map(of, cases))
    if not 1 <= highest <= _MAX_FOUND:
        raise InputError(
            f"{path}: the highest label in the masks is {highest}; number the structures 1, 2, ... "
            "(in a mask of 0 and 255, make 255 a 1), or name them in data.structures"
        )
    return tuple(f"structure {label}" for label in range(1, highest + 1))


def _arrays(
    case: Case, channels: int, structures: int, orientation: str
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Image u8[H, W, channels], label u8[H, W] and spacing f32[2] as displayed, or an InputError."""
    film, mask = readers.read_radiograph(case.image), readers.read_label_file(case.mask)
    image, spacing, label = film.pixels, film.spacing, mask.labels
    if orientation:
        label = readers.ORIENTATIONS[orientation].apply(label)
    elif film.orientation != readers.NONE and not mask.oriented:
        turn = next(name for name, value in readers.ORIENTATIONS.items() if value == film.orientation)
        raise InputError(
            f"{case.mask}: the header of {case.image.name} states how the film lies ({turn} displays it), and the mask "
            "states nothing; give --config.data.orientation=none if the mask lies as the film is displayed, "
            f"--config.data.orientation={turn} if it lies as the film's pixels are stored"
        )
    if image.shape[:2] != label.shape:
        raise InputError(
            f"{case.mask}: mask and image differ in size ({label.shape} and {image.shape[:2]} rows and columns); "
            "export both on one grid"
        )
    if label.min() < 0 or label.max() > structures:
        outside = label.max() if label.max() > structures else label.min()
        raise InputError(
            f"{case.mask}: label {outside} is outside the scheme 0-{structures}; renumber the mask or "
            "name the structure in data.structures"
        )
    image = readers.to_uint8(image, valid=film.valid)
    if channels == 1:
        image = readers.to_grey(image)
    if image.shape[2] != channels:
        raise InputError(
            f"{case.image}: has {image.shape[2]} channel, {channels} are wanted; set channels to 1, "
            "or give colour images"
        )
    return image, label.astype(np.uint8), np.where(np.isnan(case.spacing), spacing, case.spacing)


def _read(
    path: Path,
    cases: Sequence[Case],
    size: tuple[int, int] | None,
    channels: int,
    structures: int,
    orientation: str,
    rows: Sequence[int],
) -> Iterator[Example | InputError]:
    def load(row: int) -> Example | InputError:
        case = cases[row]
        try:
            image, label, spacing = _arrays(case, channels, structures, orientation)
        except InputError as error:
            return InputError(f"{path} row {case.row}: {error}")
        if size is None:
            return Example(image, label, spacing)
        scale = np.array(label.shape, np.float32) / np.array(size, np.float32)
        return Example(
            readers.resize_image(image, size),
            readers.resize_label(label, size, structures + 1),
            spacing * scale,
        )

    with ThreadPoolExecutor(_THREADS) as pool:
        for few in batched(rows, 4 * _THREADS):  # a pool reads all it is given, so give it little at a time
            yield from pool.map(load, few)
