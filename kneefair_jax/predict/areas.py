"""The table `areas.csv` of an output folder: the rows of several runs are merged by file."""

import csv
import hashlib
import io
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Self

import numpy as np

from kneefair_jax.data.readers import suffix_of
from kneefair_jax.errors import InputError
from kneefair_jax.predict.films import Film, Input
from kneefair_jax.predict.prediction import Prediction
from kneefair_jax.predict.quality import Interval
from kneefair_jax.runtime import atomic
from kneefair_jax.safe_text import is_formula, printable, spreadsheet_cell, strip_paths

AREAS = "areas.csv"
COLUMNS = (
    "file",
    "file_id",
    "structure",
    "label",
    "area_mm2",
    "area_pixels",
    "spacing_kind",
    "confidence",
    "predicted_dice",
    "predicted_dice_low",
    "predicted_dice_high",
    "dice_trusted",
    "warning",
    "mask",
)
_NO_DICE = Interval(np.nan, np.nan, np.nan)
_FILE, _ID, _LABEL = map(COLUMNS.index, ("file", "file_id", "label"))
AREA, WARNING, MASK = map(COLUMNS.index, ("area_mm2", "warning", "mask"))


def file_id(path: Path) -> str:
    """Return a short SHA-256 of a file's absolute path: equal in every run, and without the names of folders.

    The prefix prevents that a spreadsheet reads it as a number.
    """
    return f"sha256:{hashlib.sha256(os.fsencode(os.path.abspath(path))).hexdigest()[:12]}"


class LinesByFile:
    """Lines of text by `file_id` in a file of the output folder, whose lock must be held.

    The lines of a file are appended at once, so that a killed process loses none. Opening and closing replaces the
    whole by the latest lines of each file, which drops a last line that was cut off.
    """

    def __init__(self, path: Path, lines: dict[str, str], header: str = ""):
        self._path, self._lines, self._header = path, lines, header
        self._write()
        self._file = atomic.open_in_place(path, "a")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()
        self._write()

    def _write(self) -> None:
        atomic.write_text(self._path, "".join([self._header, *self._lines.values()]))

    def append(self, file: str, text: str) -> None:
        """Add the lines of a file, in place of its earlier ones."""
        content, end = text.encode(), os.fstat(self._file.fileno()).st_size
        try:
            with atomic.add_path(self._path):
                while content:
                    content = content[os.write(self._file.fileno(), content) :]
        except BaseException:
            os.ftruncate(self._file.fileno(), end)  # a full disk takes a part of the lines
            raise
        self._lines[file] = text


class Areas(LinesByFile):
    """The rows of `areas.csv` by `file_id`; kept as text, which takes a fraction of the memory of single cells.

    Raises:
        InputError: the folder holds an `areas.csv` with other columns.
    """

    def __init__(self, folder: Path):
        tables = read_rows(folder / AREAS, COLUMNS, _begins_file)
        # Which file a mask or a whole bone belongs to, by its path without the ending.
        self._owners = {stem: file for file, rows in tables.items() for stem in _stems(rows)}
        super().__init__(
            folder / AREAS, {file: lines_of(rows) for file, rows in tables.items()}, lines_of([COLUMNS])
        )

    def add(self, rows: Sequence[Sequence[str]]) -> None:
        """Add the rows of one file, in place of its earlier ones."""
        cells = [[spreadsheet_cell(cell) for cell in row] for row in rows]
        file = cells[0][_ID]
        self.append(file, lines_of(cells))
        self._owners |= dict.fromkeys(_stems(cells), file)

    def discard(self, path: Path) -> None:
        """Delete the rows of a file, if there are any; they leave the table when it is closed."""
        for stem in _stems(self.rows(path)):
            self._owners.pop(stem, None)
        self._lines.pop(file_id(path), None)

    def rows(self, path: Path) -> list[list[str]]:
        """Return the rows of a file as they stand in the table; an empty list for a file that it lacks."""
        return list(csv.reader(io.StringIO(self._lines.get(file_id(path), ""), newline="")))

    def may_write(self, path: Path, result: str) -> bool:
        """Return whether a result (a mask, a whole bone) belongs to a file, or to none.

        Args:
            path: of the file.
            result: its path in the folder; results that differ in format alone are the same.
        """
        return self._owners.get(_stem(spreadsheet_cell(result))) in (None, file_id(path))

    def require_own(self, path: Path, mask: str) -> None:
        """Refuse a file whose mask would replace that of another file of an earlier run.

        Args:
            path: of the file.
            mask: the path of its mask in the folder; masks that differ in format alone are the same.
        """
        if not self.may_write(path, mask):
            owner = self._owners[_stem(spreadsheet_cell(mask))]
            file = next(csv.reader(io.StringIO(self._lines[owner], newline="")))[_FILE]
            raise InputError(
                f"{path}: its mask would replace that of another file, {file}, of an earlier "
                "run into this --out; rename one of the two, or give another --out"
            )


def rows_of(
    item: Input,
    mask: Path,
    film: Film,
    prediction: Prediction,
    out: Path,
    bones: Mapping[str, tuple[int, Path]],
) -> Iterator[list[str]]:
    """Yield a row of `COLUMNS` for each structure and whole bone; cells are empty where a value is unknown.

    The first row has the film's warning; the others refer to it.

    Args:
        item: the file.
        mask: path of its mask in the output folder.
        film: as read.
        prediction: of the film.
        out: the output folder.
        bones: whole bone -> its label in its file, and the file.
    """
    pixels = np.bincount(prediction.mask.ravel(), minlength=len(prediction.confidence) + 1)
    folders = (out.absolute(), item.path.absolute().parent)
    warning = strip_paths("; ".join(filter(None, (*film.notes, prediction.warning))), *folders)
    reference = f"see {next(iter(prediction.confidence))}" if warning else ""

    def row(name: str, label: str, count: int, confidence: float, warning: str, path: str) -> list[str]:
        predicted = prediction.predicted_dice.get(name, _NO_DICE)
        is_trusted = "no" if name in prediction.untrusted else "yes"
        area = float(count * film.spacing.prod())
        return [
            path_cell(item),
            file_id(item.path),
            name,
            label,
            f"{area:.2f}" if np.isfinite(area) else "",
            str(count),
            film.spacing_kind,
            f"{confidence:.4f}" if np.isfinite(confidence) else "",
            *(f"{dice:.4f}" if np.isfinite(dice) else "" for dice in predicted),
            is_trusted if np.isfinite(predicted.value) else "",
            warning,
            path,
        ]

    for label, (name, confidence) in enumerate(prediction.confidence.items(), start=1):
        note = warning if label == 1 else reference
        yield row(name, str(label), int(pixels[label]), confidence, note, printable(mask.as_posix()))
    for name, outline in prediction.outlines.items():
        number, file = bones.get(name, ("", None))
        path = printable(file.relative_to(out).as_posix()) if file else ""
        yield row(name, str(number), int(outline.mask.sum()), outline.confidence, reference, path)


def path_cell(item: Input) -> str:
    """Return a file's path as a cell that no spreadsheet runs as a formula: `=1.png` becomes `./=1.png`.

    An absolute path, which names people and machines, is cut to its part below the folder that was given.
    """
    levels = len(Path(item.name).parts)
    text = printable(str(Path(*item.path.parts[-levels:]) if item.path.is_absolute() else item.path))
    return f"./{text}" if is_formula(text) else text


def read_rows(
    path: Path, columns: Sequence[str], begins_file: Callable[[Sequence[str]], bool]
) -> dict[str, list[list[str]]]:
    """Return `file_id` -> the rows of the file; the latest rows if it was segmented twice.

    Args:
        path: of the table, whose second column is `file_id`; it may not exist.
        columns: of the table.
        begins_file: whether a row is the first one of a file.

    Raises:
        InputError: the table has other columns, or is damaged (by row).
    """
    atomic.require_regular(path)
    if not path.exists() or not path.stat().st_size:
        return {}
    with path.open(newline="", encoding="utf-8", errors="replace") as file:
        try:
            head, *rows = list(csv.reader(file))
        except csv.Error as error:
            raise InputError(
                f"{path}: damaged ({error}), so rows cannot be added; move it away, or give another --out"
            ) from error
    if tuple(head) != tuple(columns):
        raise InputError(
            f"{path}: its columns are not {', '.join(columns)}, so rows cannot be added; move it away, or give another "
            "--out"
        )
    tables: dict[str, list[list[str]]] = {}
    for number, row in enumerate(rows, start=2):
        if len(row) == len(columns):
            latest = tables.setdefault(row[_ID], [])
            if begins_file(row) and any(map(begins_file, latest)):
                latest.clear()  # segmented again, with other structures perhaps
            latest.append(row)
        elif row and number <= len(rows):  # the last line may have been cut off
            raise InputError(
                f"{path} row {number}: {len(row)} cells, not {len(columns)}, so rows cannot be added; correct it, or "
                "give another --out"
            )
    return tables


def _begins_file(row: Sequence[str]) -> bool:
    """Return whether a row is the first one of a file; whole bones are in other folders."""
    return row[_LABEL] == "1" and row[MASK].startswith("masks/")


def _stems(rows: Sequence[Sequence[str]]) -> set[str]:
    """Return the paths, without endings, of the mask and the whole bones that rows name."""
    return {_stem(row[MASK]) for row in rows} - {""}


def _stem(mask: str) -> str:
    """`masks/1.nii.gz` -> `masks/1`."""
    return mask[: len(mask) - len(suffix_of(mask))]


def lines_of(rows: Sequence[Sequence[str]]) -> str:
    """Return rows as lines of CSV."""
    buffer = io.StringIO(newline="")
    csv.writer(buffer).writerows(rows)
    return buffer.getvalue()
