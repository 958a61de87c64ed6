"""Reads delimited text tables in UTF-8, UTF-16 or Windows-1252, with commas, semicolons, tabs or bars."""

import codecs
import csv
import io
import itertools
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from kneefair_jax.data import column_names, identifiers
from kneefair_jax.data.readers import limits
from kneefair_jax.errors import InputError

KEY = "case_id"  # a column of every table; it determines the delimiter
_DELIMITERS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "vertical bars"}
# The first line in which Excel states the delimiter.
_HINT = re.compile(r"\"?sep=(.)\"?\r?\n")
_BOMS = {
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
# 0,5 or 1,25e-3; and 0,3x0,2 of a spacing.
_DECIMAL_COMMA = re.compile(r"[+-]?[0-9]*,[0-9]+([eE][+-]?[0-9]+)?(\s*x\s*[0-9]*(,[0-9]+)?)?")
_SAMPLE_LINES = 50  # that determine the delimiter of a table without a known column
_HEADER_ROWS = 10  # among which the header is, below titles
_INTEGER = re.compile(r"[+-]?[0-9]+")
# Limits of a table, beside those of any file: a cell takes about 140 bytes of memory (measured).
MOST_CELLS, MOST_COLUMNS, LONGEST_LINE = 10_000_000, 10_000, 1 << 20
_OTHER_FORMATS = {
    b"PK\x03\x04": "an Excel workbook or a zip archive",
    b"\xd0\xcf\x11\xe0": "an Excel workbook of the format before 2007 (.xls)",
    b"\x1f\x8b": "compressed by gzip",
    b"PAR1": "a parquet file",
}
_WINDOWS = "Windows-1252"
_WINDOWS_SIGNS = frozenset("€£§©®°±²³µ·½¼¾×–—‘’“”«»¿¡…\u00a0")  # noqa: RUF001
_NOT_ASCII = re.compile(r"[^\x00-\x7f]")
_TEXT_COLUMNS = frozenset({KEY, "patient_id", "image", "mask", "model", "structure", "reader", "split"})


class Rows(NamedTuple):
    """The cells of a file.

    Attributes:
        header: the columns' names.
        cells: line in the file -> trimmed cells below the header, without lines that have no text.
        notes: on the dialect, where it is not UTF-8 with commas and decimal points, and on rows above the header.
        titles: the cells with text above the header.
    """

    header: list[str]
    cells: dict[int, list[str]]
    notes: list[str]
    titles: list[str]


def read(path: Path, keys: Collection[str] = (KEY,)) -> Rows:
    """Read a text table; its delimiter is the one that yields a header with a column of `keys`.

    In tables with semicolons or tabs, a column whose numbers all have decimal commas is read with decimal points.

    Args:
        path: of the file.
        keys: names of columns (`header_row`). Without a header that has one, the delimiter gives the first rows the
            same number of cells, and the first row is the header.

    Raises:
        InputError: the file cannot be opened or exceeds a limit, the encoding is neither UTF-8, UTF-16 with a byte
            order mark nor Windows-1252, no or several delimiters fit, or a quoted cell is not closed.
    """
    text, encoding = _decoded(path)
    skipped = 0
    if hint := _HINT.match(text):
        text, skipped = text[hint.end() :], 1
    try:
        delimiter = hint[1] if hint else _delimiter(text, keys, path)
        if (count := text.count(delimiter) + text.count("\n")) > MOST_CELLS:
            raise InputError(f"{path}: {count} cells, more than {MOST_CELLS}; leave out columns, or split it")
        reader = csv.reader(_lines(text, path, skipped), delimiter=delimiter, strict=True)
        cells = {}
        tall_rows = {}  # with cells of several lines
        line = 0
        for row in reader:
            if reader.line_num - line > 1:
                tall_rows[line + 1 + skipped] = row
            line = reader.line_num
            if any(cell.strip() for cell in row):
                cells[line + skipped] = [cell.strip() for cell in row]
    except csv.Error as error:
        raise InputError(f"{path}: malformed CSV ({error}); save it as UTF-8 text with commas") from error
    first, header, titles = split_header(cells, keys)
    for number, row in tall_rows.items():
        if number > first:
            _refuse_merged_rows(row, header, delimiter, path, number)
    notes = []
    if encoding != "UTF-8" or delimiter != ",":
        note = f"{path.name} is read as {encoding} text with {_DELIMITERS.get(delimiter, repr(delimiter))}"
        if encoding == _WINDOWS and (letter := _NOT_ASCII.search(text)):
            number = text.count("\n", 0, letter.start()) + 1 + skipped
            note += f"; check letters such as {letter[0]!r} in row {number}, or save it as UTF-8"
        notes.append(note)
    if delimiter != "," and (names := replace_decimal_commas(header, cells)):
        notes.append(f"{path.name}: decimal commas are read as points in {', '.join(names)}")
    return Rows(header, cells, notes + title_notes(first, titles, path), titles)


def header_row(rows: Mapping[int, Sequence[str]], keys: Collection[str]) -> int | None:
    """Return the number of the first row that has a name of `keys`, among the first 10; None if there is none.

    Rows above it are titles, with at most half as many filled cells: a row of data, in which `patient` may be a level,
    is no header. A row with a single cell, such as the title `Patient`, is the header only if no other row is.

    Args:
        rows: number -> trimmed cells, without empty rows.
        keys: names of columns; one that `column_names.plain` has written stands for all its spellings.
    """
    most_above, single = 0, None
    for number, row in itertools.islice(rows.items(), _HEADER_ROWS):
        count = sum(map(bool, row))
        names = set(map(identifiers.visible, row))
        if 2 * most_above <= count and not {*names, *map(column_names.plain, names)}.isdisjoint(keys):
            if count > 1:
                return number
            single = single or number
        most_above = max(most_above, count)
    return single


class Header(NamedTuple):
    """The header of a table: its row, the columns' names, and the cells with text above it."""

    row: int
    names: list[str]
    titles: list[str]


def split_header(rows: dict[int, list[str]], keys: Collection[str]) -> Header:
    """Remove the header and the rows above it in place; the header is that of `header_row`, or else the first row."""
    number = header_row(rows, keys) or min(rows, default=0)
    titles = [cell for row in [row for row in rows if row < number] for cell in rows.pop(row) if cell]
    return Header(number, [identifiers.visible(cell) for cell in rows.pop(number, [])], titles)


def title_notes(row: int, titles: Sequence[str], path: Path) -> list[str]:
    """Return a note on cells above the header, which it does not repeat."""
    return [f"{path.name}: row {row} is the header; the text above it is not read"] if titles else []


def _decoded(path: Path) -> tuple[str, str]:
    """Return the text of a file and the name of its encoding."""
    data = limits.read_bytes(path)
    if kind := next((kind for start, kind in _OTHER_FORMATS.items() if data.startswith(start)), ""):
        raise InputError(f"{path}: {kind}, not a text table; save or unpack it as CSV (UTF-8, commas)")
    codec = next((name for mark, name in _BOMS.items() if data.startswith(mark)), "utf-8")
    remedy = "save it as UTF-8 text with commas"
    try:
        text = data.decode(codec)
    except UnicodeDecodeError as error:
        if codec == "utf-8" and (windows := _from_windows(data)):
            return windows, _WINDOWS
        raise InputError(f"{path}: malformed CSV ({error}); {remedy}") from error
    if "\0" in text:
        raise InputError(
            f"{path}: malformed CSV (it contains NUL bytes, as UTF-16 without a byte order mark does); {remedy}"
        )
    return text, "UTF-8" if codec.startswith("utf-8") else codec.upper()


def _from_windows(data: bytes) -> str:
    """Return the text of bytes in Windows-1252, as Excel saves CSV; "" if they are another or a damaged encoding.

    Damaged UTF-8 still has characters of several bytes, and other code pages put signs and quotation marks where the
    letters are.
    """
    try:
        text = data.decode("cp1252")
    except UnicodeDecodeError:
        return ""
    is_damaged = not data.decode("utf-8", errors="ignore").isascii()
    letters = [character for character in text if not character.isascii()]
    is_text = all(letter.isalpha() or letter in _WINDOWS_SIGNS for letter in letters)
    return "" if is_damaged or not is_text or "\0" in text else text


def _lines(text: str, path: Path, skipped: int = 0) -> Iterator[str]:
    """Yield the lines, and refuse lines that could be split into millions of cells, which take gigabytes."""
    for number, line in enumerate(io.StringIO(text, newline=""), start=1 + skipped):
        if len(line) > LONGEST_LINE:
            raise InputError(
                f"{path} row {number}: {len(line)} characters, more than {LONGEST_LINE}; correct the line ends, or "
                "leave out columns"
            )
        yield line


def _refuse_merged_rows(row: list[str], header: list[str], delimiter: str, path: Path, number: int) -> None:
    """Refuse a cell that contains several rows, between two stray quotation marks of one column.

    A note of several lines may contain as many delimiters as rows do, but its lines do not begin like rows.

    Raises:
        InputError: a cell of several lines has as many delimiters as these lines would have as rows, and each begins
            with a cell of the same pattern of letters and digits as the row's first one.
    """
    for cell in row:
        lines = len(cell.splitlines()) - 1
        if lines > 0 and cell.count(delimiter) == lines * (len(header) - 1) > 0:
            patterns = {_pattern(line.partition(delimiter)[0]) for line in [row[0], *cell.splitlines()[1:]]}
            if len(patterns) > 1:
                continue
            raise InputError(
                f"{path} row {number}: a quoted cell seems to contain {lines} further rows; close or remove its "
                "quotation mark, or remove the line breaks in it"
            )


def _pattern(cell: str) -> str:
    """Return the pattern of a cell's first line, `a9-a` for `p0012-left`: runs of letters and digits as one each."""
    line = next(iter(cell.strip().splitlines()), "")
    return re.sub(r"[^\W\d_]+", "a", re.sub(r"\d+", "9", line))


def _delimiter(text: str, keys: Collection[str], path: Path) -> str:
    lines = [line for line in itertools.islice(_lines(text, path), _SAMPLE_LINES) if line.strip()] or [""]
    if (count := max(map(lines[0].count, _DELIMITERS)) + 1) > MOST_COLUMNS:
        raise InputError(f"{path}: {count} columns, more than {MOST_COLUMNS}; remove those that are not used")

    def columns(delimiter: str) -> int:
        rows = {}
        for number, row in enumerate(csv.reader(lines, delimiter=delimiter)):
            if any(cells := [cell.strip() for cell in row]):
                rows[number] = cells
        header = header_row(rows, keys)
        return 0 if header is None else len(rows[header])

    widths = {delimiter: columns(delimiter) for delimiter in _DELIMITERS}
    # The comma comes first, so it wins a tie.
    return (
        max(widths, key=lambda name: widths[name])
        if any(widths.values())
        else _regular_delimiter(lines, path)
    )


def _regular_delimiter(lines: Sequence[str], path: Path) -> str:
    """Return the delimiter that gives all lines the same number of cells, two or more.

    Raises:
        InputError: two delimiters do.
    """
    widths: dict[str, int] = {}
    for delimiter in _DELIMITERS:
        rows = [row for row in csv.reader(lines, delimiter=delimiter) if any(row)]
        if rows and len({len(row) for row in rows}) == 1 and len(rows[0]) > 1:
            widths[delimiter] = len(rows[0])
    if not widths:  # lines of a quoted cell, or of a damaged table: only the header is certain
        return max(_DELIMITERS, key=lines[0].count)
    if len(widths) > 1:
        names = " and ".join(_DELIMITERS[delimiter] for delimiter in widths)
        raise InputError(
            f"{path} row 1: {names} may both separate the cells; write the line sep=; (with your separator) above the "
            "header, or quote the cells"
        )
    return next(iter(widths))


def replace_decimal_commas(header: list[str], cells: dict[int, list[str]]) -> list[str]:
    """Replace decimal commas in place and return the names of the columns that had them."""
    names = []
    for column, name in enumerate(header):
        rows = [row for row in cells.values() if column < len(row) and row[column]]
        numbers = [row for row in rows if _DECIMAL_COMMA.fullmatch(row[column])]
        integers = [row for row in rows if _INTEGER.fullmatch(row[column])]
        # If points occur too, either may separate thousands; such a column is unchanged, and refused later.
        has_points = any(re.search(r"[0-9]\.[0-9]", row[column]) for row in rows)
        word_count = len(rows) - len(numbers) - len(integers)
        if name in _TEXT_COLUMNS or not numbers or has_points or word_count > len(numbers):
            continue
        for row in numbers:
            row[column] = row[column].replace(",", ".")
        names.append(name)
    return names
