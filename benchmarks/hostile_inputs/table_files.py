"""Tables: bombs, dialects that break, what is no text table or no regular file, and names that cases may not have."""

import gzip
import os
import zipfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.hostile_files import cohort, launch
from benchmarks.hostile_inputs import Kind

type Write = Callable[[Path], object]

_LINES = ["case_id,sex,dice", *(f"c{n},{'fm'[n % 2]},0.{900 + n}" for n in range(40))]
_TEXT = "\n".join([*_LINES, ""])


def text(content: str, encoding: str = "utf-8") -> Write:
    """Return the writer of a table."""
    return lambda path: path.write_bytes(content.encode(encoding))


def _line(number: int, line: str) -> Write:
    """A good table but for one line (the header is line 1)."""
    return text("\n".join([*_LINES[: number - 1], line, *_LINES[number:], ""]))


def _columns(path: Path) -> None:
    with path.open("w") as file:
        for number, line in enumerate(_LINES):
            cells = (f"x{k}" if number == 0 else "" for k in range(1_000_000))
            file.write(f"{line},{','.join(cells)}\n")


def _long_line(path: Path) -> None:
    with path.open("w") as file:
        file.write("\n".join(_LINES[:4]) + "\n")
        file.write("c3,m,0.9" + "," * (100 << 20) + "\n")


def _long_header(path: Path) -> None:
    path.write_text("case_id,sex,dice" + "," * (100 << 20) + "\nc0,f,0.9\n")


def _long_cell(path: Path) -> None:
    path.write_text(_TEXT + 'c40,"' + "a" * (100 << 20) + '",0.9\n')


def _sparse(path: Path) -> None:
    path.write_text(_TEXT)
    os.truncate(path, 12 << 30)


def _workbook(blocks: int, path: Path) -> None:
    """A damaged Excel workbook, of which one sheet expands to `blocks` MiB."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("[Content_Types].xml", "<Types/>")
        archive.writestr("xl/workbook.xml", "<workbook/>")
        with archive.open("xl/worksheets/sheet1.xml", "w", force_zip64=True) as file:
            for _ in range(blocks):
                file.write(b" " * (1 << 20))


def _gzip(path: Path) -> None:
    with gzip.open(path, "wb") as file:
        file.write(_TEXT.encode())
        for _ in range(3072):
            file.write(bytes(1 << 20))


def _parquet(path: Path, rows: int = 40, **columns: pa.Array) -> None:
    table = {
        "case_id": pa.array([f"c{n}" for n in range(rows)]),
        "sex": pa.array(["fm"[n % 2] for n in range(rows)]),
        "dice": pa.array(np.linspace(0.8, 0.9, rows)),
    } | columns
    pq.write_table(pa.table(table), path)


def _parquet_of_rows(path: Path) -> None:
    """300 million rows in a few kB."""
    block = pa.table({name: pa.array(np.zeros(10_000_000, np.int8)) for name in ("case_id", "sex", "dice")})
    with pq.ParquetWriter(path, block.schema, compression="zstd") as writer:
        for _ in range(30):
            writer.write_table(block)


def _parquet_of_long_cells(path: Path) -> None:
    """One text of 10 MB in 10,000 rows, stored once."""
    rows = 10_000
    words = pa.DictionaryArray.from_arrays(pa.array(np.zeros(rows, np.int32)), pa.array(["a" * 10_000_000]))
    table = pa.table({"case_id": [f"c{n}" for n in range(rows)], "sex": words, "dice": np.full(rows, 0.9)})
    pq.write_table(
        table.cast(pa.schema([("case_id", pa.string()), ("sex", words.type), ("dice", pa.float64())])), path
    )


def _parquet_broken(path: Path) -> None:
    _parquet(path)
    path.write_bytes(path.read_bytes()[:-40])


# Name of the kind -> file name and writer of a table of scores that is refused.
REFUSED: dict[str, tuple[str, Write]] = {
    "NUL bytes": ("t.csv", _line(5, "c3,m\0,0.9")),
    "a million columns": ("t.csv", _columns),
    "a row of 100 MB": ("t.csv", _long_line),
    "a header of 100 MB": ("t.csv", _long_header),
    "a cell of 100 MB": ("t.csv", _long_cell),
    "a quote that is not closed": ("t.csv", _line(5, 'c3,"m,0.9')),
    "quotes that swallow rows": (
        "t.csv",
        text(_TEXT.replace("c3,m,0.9", 'c3,"m,0.9').replace("c7,m,", 'c7,m",')),
    ),
    "damaged UTF-8": (
        "t.csv",
        lambda path: path.write_bytes(_TEXT.replace("c3,m", "c3,\u00e9").encode() + b"\xe9"),
    ),
    "UTF-16 without a mark": ("t.csv", text(_TEXT, "utf-16-le")),
    "half a UTF-16 character": ("t.csv", lambda path: path.write_bytes(_TEXT.encode("utf-16")[:-1])),
    "a header twice": ("t.csv", text(_TEXT.replace("case_id,sex,dice", "case_id,sex,sex"))),
    "empty": ("t.csv", text("")),
    "a header alone": ("t.csv", text("case_id,sex,dice\n")),
    "line feeds alone": ("t.csv", text("\n" * 1000)),
    "a short row": ("t.csv", _line(5, "c3,m")),
    "sparse of 12 GB": ("t.csv", _sparse),
    "Excel workbook": ("t.xlsx", partial(_workbook, 1)),
    "Excel workbook that expands to 3 GiB": ("t.xlsx", partial(_workbook, 3072)),
    "workbook named CSV": ("t.csv", partial(_workbook, 1)),
    "gzip that expands to 3 GiB": ("t.csv.gz", _gzip),
    "pipe": ("t.csv", lambda path: os.mkfifo(path)),
    "link to /dev/zero": ("t.csv", lambda path: path.symlink_to("/dev/zero")),
    "folder": ("t.csv", lambda path: path.mkdir()),
    "link to itself": ("t.csv", lambda path: path.symlink_to(path.name)),
    "name of 300 characters": ("t" * 300 + ".csv", lambda path: None),
    "parquet of 300 million rows": ("t.parquet", _parquet_of_rows),
    "parquet of long cells": ("t.parquet", _parquet_of_long_cells),
    "parquet broken off": ("t.parquet", _parquet_broken),
    "parquet that is text": ("t.parquet", text(_TEXT)),
    "pipe as parquet": ("t.parquet", lambda path: os.mkfifo(path)),
    "parquet with NUL in an identifier": (
        "t.parquet",
        lambda path: _parquet(path, case_id=pa.array([f"c\0{n}" for n in range(40)])),
    ),
    "parquet of lists": ("t.parquet", lambda path: _parquet(path, dice=pa.array([[0.9]] * 40))),
}
WORKS: dict[str, tuple[str, Write]] = {
    "Latin-1": ("t.csv", text(_TEXT.replace("c3,m", "c3,\u00e9"), "latin-1")),
    "byte order mark": ("t.csv", text(_TEXT, "utf-8-sig")),
    "mixed line ends": ("t.csv", text(_TEXT.replace("\nc3", "\r\nc3").replace("\nc5", "\rc5"))),
    "no line end at the end": ("t.csv", text(_TEXT.rstrip())),
    "name in capitals": ("T.CSV", text(_TEXT)),
}
# Identifiers in row 5, refused before a case is prepared; a word of the message.
IDENTIFIERS = {
    "NUL": "c\0",
    "300 characters": "c" * 300,
    "a point": ".",
    "two points": "..",
    "a folder above": "../c3",
    "the keyword `file` of numpy.savez": "file",
    "the keyword `allow_pickle` of numpy.savez": "allow_pickle",
    "an escape": "c\x1b[2J",
}
GOOD_IDENTIFIERS = {"a slash": "a/b", "a space at the end": "c3 "}


def _scores(name: str, write: Write) -> Callable[[Path], list[str]]:
    def make(folder: Path) -> list[str]:
        write(folder / name)
        return [
            "-m",
            "kneefair_jax.audit",
            "--scores",
            name,
            "--attributes",
            "sex",
            "--draws",
            "40",
            "--out",
            "out",
        ]

    return make


def _identifier(cell: str) -> Callable[[Path], list[str]]:
    def make(folder: Path) -> list[str]:
        cohort(folder, {"case_id": cell})
        return launch(mode="train")

    return make


def _metadata(write: Write) -> Callable[[Path], list[str]]:
    def make(folder: Path) -> list[str]:
        cohort(folder)
        (folder / "metadata.csv").unlink()
        write(folder / "metadata.csv")
        return launch()

    return make


def _kinds() -> Iterator[Kind]:
    for kind, (name, write) in REFUSED.items():
        yield Kind(f"scores: {kind}", _scores(name, write), "refused", name[:50])
    for kind, (name, write) in WORKS.items():
        yield Kind(f"scores: {kind}", _scores(name, write), "works")
    for kind in ("pipe", "link to /dev/zero", "workbook named CSV", "a million columns", "sparse of 12 GB"):
        yield Kind(f"cohort's table: {kind}", _metadata(REFUSED[kind][1]), "refused", "metadata.csv")
    for kind, cell in IDENTIFIERS.items():
        yield Kind(f"case identifier: {kind}", _identifier(cell), "refused", "" if "\0" in cell else "row 5")
    for kind, cell in GOOD_IDENTIFIERS.items():
        yield Kind(f"case identifier: {kind}", _identifier(cell), "works")


KINDS = tuple(_kinds())
