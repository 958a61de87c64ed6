"""Text of files and names, made safe for its destination: a terminal, a spreadsheet, a shared file."""

import contextlib
import os
import re
import sys
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import IO, Any, TextIO, cast

# A spreadsheet runs cells that begin with these, in either width (OWASP, CSV injection).
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")  # noqa: RUF001
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")
# Marks that reorder displayed text (CVE-2021-42574), and separators that break lines.
_MISLEADING = frozenset("\u200e\u200f\u2028\u2029\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
_QUOTED_PATH = re.compile(r"""'~?/[^'\n]*/[^'\n]*'|"~?/[^"\n]*/[^"\n]*\"""")
_PART = r"""[^\s/'":;,()\[\]<>]+"""
# A folder's name may contain spaces: all words before a slash, except those up to a file's name (`1.png and x/`).
_FOLDER = rf"(?:(?!{_PART}\.[A-Za-z]\w{{1,4}} ){_PART} +)*{_PART}/"
_BARE_PATH = re.compile(
    rf"(?:file:(?://[\w.-]*)?|(?<![\w./:~<-]))(?:~/(?:{_FOLDER})*|/{_PART}/(?:{_FOLDER})*)(?:{_PART})?"
)
# A text that begins with a path and continues as a message, or contains another path.
_MESSAGE = re.compile(r"""[:;]\s|[\s('"\[=]~?/|\n""")


def printable(text: str) -> str:
    r"""Escape the control characters of a text: ESC becomes `\x1b`; line feeds and tabs stay."""
    return "".join(
        character
        if character in "\n\t"
        or not (unicodedata.category(character) in ("Cc", "Cs") or character in _MISLEADING)
        else character.encode("unicode_escape").decode()
        for character in text
    )


def align_columns(rows: Sequence[Sequence[str]]) -> list[str]:
    """Return the lines of a text table: the first column is aligned left, all others right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(
            [name.ljust(widths[0])]
            + [cell.rjust(width) for cell, width in zip(cells, widths[1:], strict=True)]
        )
        for name, *cells in rows
    ]


def is_formula(text: str) -> bool:
    """Whether a spreadsheet would run a cell with this text as a formula."""
    return text.startswith(_FORMULA) and not _NUMBER.fullmatch(text)


def spreadsheet_cell(value: Any) -> Any:
    """Put an apostrophe before text that a spreadsheet would run as a formula; return other values unchanged."""
    return f"'{value}" if isinstance(value, str) and is_formula(value) else value


def strip_paths(text: str, *folders: Path) -> str:
    """Return the text with absolute paths shortened to their last component, since paths name people and machines.

    Args:
        text: of a message or a table.
        folders: paths below these folders keep the folder's name and the rest; their names may contain any character.
            The home folder becomes `~`.
    """
    home = os.path.expanduser("~")
    replacements = {str(folder): folder.name for folder in folders if folder.is_absolute()} | {home: "~"}
    for path in sorted(replacements, key=len, reverse=True):
        if path.startswith("/") and path != "/":
            text = re.sub(
                rf"(?<![\w.~-]){re.escape(path)}(?![\w-]|\.\w)", replacements[path].replace("\\", r"\\"), text
            )
    text = _QUOTED_PATH.sub(lambda match: f"{match[0][0]}{Path(match[0][1:-1]).name}{match[0][-1]}", text)
    return _BARE_PATH.sub(lambda match: Path(match[0]).name, text)


def strip_json_paths(value: Any, *folders: Path) -> Any:
    """Apply `strip_paths` to every text of a JSON value; a text that is one path keeps its last component."""
    if isinstance(value, dict):
        return {key: strip_json_paths(item, *folders) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [strip_json_paths(item, *folders) for item in value]
    if not isinstance(value, str):
        return value
    is_path = value.startswith(("/", "~")) and not _MESSAGE.search(value)
    return (Path(value).name or value) if is_path else strip_paths(value, *folders)


class FilteredStream:
    """A text stream that applies a function to all text written to it."""

    def __init__(self, stream: IO[str], change: Callable[[str], str]):
        self._stream = stream
        self._change = change

    def write(self, text: str) -> int:
        """Write the changed text."""
        self._stream.write(self._change(text))
        return len(text)

    @property
    def unfiltered(self) -> IO[str]:
        """The underlying stream, for text that is already safe and moves the cursor."""
        return self._stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


@contextlib.contextmanager
def printable_output() -> Iterator[None]:
    """Make everything printed in the block `printable`, including names of files and groups."""
    out, err = (cast(TextIO, FilteredStream(stream, printable)) for stream in (sys.stdout, sys.stderr))
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        yield
