"""The table `areas.csv` of an output folder, which several runs in turn may fill: rows are merged by file."""

import csv
import hashlib
import io
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Self

from kneefair_jax.data.readers import suffix_of
from kneefair_jax.errors import InputError
from kneefair_jax.runtime import atomic, io_errors
from kneefair_jax.safe_text import spreadsheet_cell

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
    "warning",
    "mask",
)
_FILE, _ID, _LABEL = map(COLUMNS.index, ("file", "file_id", "label"))
AREA, WARNING, MASK = map(COLUMNS.index, ("area_mm2", "warning", "mask"))


def file_id(path: Path) -> str:
    """Return a short SHA-256 of a file's absolute path: the same for the same file in every run, without its folders.

    The prefix keeps a spreadsheet from reading it as a number.
    """
    return f"sha256:{hashlib.sha256(os.fsencode(os.path.abspath(path))).hexdigest()[:12]}"


class Areas:
    """The rows of an output folder, by `file_id`.

    A file's rows are appended at once, so that a process that is killed loses none; at the end the table is replaced by
    one in which each file has its latest rows alone. The folder's lock must be held.

    Raises:
        InputError: the folder holds an `areas.csv` with other columns.
    """

    def __init__(self, folder: Path):
        self._path = folder / AREAS
        earlier = _read(self._path)
        # As text, which takes a fraction of the memory of single cells.
        self._rows = {own: _text(rows) for own, rows in earlier.items()}
        # Which file a mask or a whole bone belongs to, by its path without the ending.
        self._owners = {stem: own for own, rows in earlier.items() for stem in _stems(rows)}
        self._write()  # a last line that was cut off would spoil the next one
        self._lines = atomic.open_in_place(self._path, "a")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._lines.close()
        self._write()

    def add(self, rows: Sequence[Sequence[str]]) -> None:
        """Adds the rows of one file, in place of those that it had."""
        guarded = [[spreadsheet_cell(cell) for cell in row] for row in rows]
        text = _text(guarded)
        self._append(text)
        self._rows[guarded[0][_ID]] = text
        self._owners |= dict.fromkeys(_stems(guarded), guarded[0][_ID])

    def discard(self, path: Path) -> None:
        """Delete the rows of a file, if there are any; they leave the table when it is closed."""
        for stem in _stems(self.rows(path)):
            self._owners.pop(stem, None)
        self._rows.pop(file_id(path), None)

    def rows(self, path: Path) -> list[list[str]]:
        """Return the rows of a file as they stand in the table; none of a file that it lacks."""
        return list(csv.reader(io.StringIO(self._rows.get(file_id(path), ""), newline="")))

    def may_write(self, path: Path, result: str) -> bool:
        """Return whether a result (a mask, a whole bone) is a file's own, or no file's.

        Args:
            path: of the file.
            result: its path in the folder; results that differ in format alone are the same.
        """
        return self._owners.get(_stem(spreadsheet_cell(result))) in (None, file_id(path))

    def require_own(self, path: Path, mask: str) -> None:
        """Refuses a file whose mask would replace that of another file of an earlier run.

        Args:
            path: of the file.
            mask: the path of its mask in the folder; masks that differ in format alone are the same.
        """
        if not self.may_write(path, mask):
            other = self._owners[_stem(spreadsheet_cell(mask))]
            file = next(csv.reader(io.StringIO(self._rows[other], newline="")))[_FILE]
            raise InputError(
                f"{path}: its mask would replace that of another file, {file}, of an earlier "
                "run into this --out; rename one of the two, or give another --out"
            )

    def _write(self) -> None:
        atomic.write_text(self._path, "".join([_text([COLUMNS]), *self._rows.values()]))

    def _append(self, text: str) -> None:
        content, end = text.encode(), os.fstat(self._lines.fileno()).st_size
        try:
            with io_errors.add_path(self._path):
                while content:
                    content = content[os.write(self._lines.fileno(), content) :]
        except BaseException:
            os.ftruncate(self._lines.fileno(), end)  # a full disk takes a part of the rows
            raise


def _read(path: Path) -> dict[str, list[list[str]]]:
    """`file_id` -> the rows of the file; of a file that was segmented twice the latest."""
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
    if tuple(head) != COLUMNS:
        raise InputError(
            f"{path}: its columns are not {', '.join(COLUMNS)}, so rows cannot be added; move it away, or give another "
            "--out"
        )
    by_file: dict[str, list[list[str]]] = {}
    for number, row in enumerate(rows, start=2):
        if len(row) == len(COLUMNS):
            latest = by_file.setdefault(row[_ID], [])
            if _is_first(row) and any(map(_is_first, latest)):
                latest.clear()  # segmented again, with other structures perhaps
            latest.append(row)
        elif row and number <= len(rows):  # the last line may have been cut off
            raise InputError(
                f"{path} row {number}: {len(row)} cells, not {len(COLUMNS)}, so rows cannot be added; correct it, or "
                "give another --out"
            )
    return by_file


def _is_first(row: Sequence[str]) -> bool:
    """Return whether a row is the first that is written of a file; whole bones are in other folders."""
    return row[_LABEL] == "1" and row[MASK].startswith("masks/")


def _stems(rows: Sequence[Sequence[str]]) -> set[str]:
    """Return the paths, without endings, of the mask and the whole bones that rows name."""
    return {_stem(row[MASK]) for row in rows} - {""}


def _stem(mask: str) -> str:
    """`masks/1.nii.gz` -> `masks/1`."""
    return mask[: len(mask) - len(suffix_of(mask))]


def _text(rows: Sequence[Sequence[str]]) -> str:
    buffer = io.StringIO(newline="")
    csv.writer(buffer).writerows(rows)
    return buffer.getvalue()
