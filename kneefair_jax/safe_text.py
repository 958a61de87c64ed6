"""Text of files and names, made safe for where it goes: a terminal, a spreadsheet, a file that is shared."""

import contextlib
import os
import re
import sys
import unicodedata
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any, TextIO, cast

# A spreadsheet runs cells that begin with these, in either width (OWASP, CSV injection).
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")  # noqa: RUF001
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")
# Marks that make text read in another order than it is stored (CVE-2021-42574), and separators that break lines.
_MISLEADING = frozenset("\u200e\u200f\u2028\u2029\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
_QUOTED_PATH = re.compile(r"""'~?/[^'\n]*/[^'\n]*'|"~?/[^"\n]*/[^"\n]*\"""")
_PART = r"""[^\s/'":;,()\[\]<>]+"""
# A folder's name may hold spaces: all words before a slash, but for those up to a file's name (`1.png and x/`).
_FOLDER = rf"(?:(?!{_PART}\.[A-Za-z]\w{{1,4}} ){_PART} +)*{_PART}/"
_BARE_PATH = re.compile(
    rf"(?:file:(?://[\w.-]*)?|(?<![\w./:~<-]))(?:~/(?:{_FOLDER})*|/{_PART}/(?:{_FOLDER})*)(?:{_PART})?"
)
# A text that begins with a path and goes on as a message, or has another path in it.
_MESSAGE = re.compile(r"""[:;]\s|[\s('"\[=]~?/|\n""")


def printable(text: str) -> str:
    r"""The text with what a terminal would obey, not show, as escapes: ESC becomes `\x1b`; line feeds and tabs stay."""
    return "".join(
        character
        if character in "\n\t"
        or not (unicodedata.category(character) in ("Cc", "Cs") or character in _MISLEADING)
        else character.encode("unicode_escape").decode()
        for character in text
    )


def is_formula(text: str) -> bool:
    """Whether a spreadsheet would run a cell with this text."""
    return text.startswith(_FORMULA) and not _NUMBER.fullmatch(text)


def spreadsheet_cell(value: Any) -> Any:
    """Text with an apostrophe before it where a spreadsheet would run it as a formula; all other values as they are."""
    return f"'{value}" if isinstance(value, str) and is_formula(value) else value


def without_paths(text: str, *folders: Path) -> str:
    """Return the text with absolute paths cut to their last part: they name people and machines.

    Args:
        text: of a message or a table.
        folders: whose paths are cut to what begins with the folder's own name; they may hold any character. The home
            folder is known.
    """
    home = os.path.expanduser("~")
    known = {str(folder): folder.name for folder in folders if folder.is_absolute()} | {home: "~"}
    for path in sorted(known, key=len, reverse=True):
        if path.startswith("/") and path != "/":
            text = re.sub(
                rf"(?<![\w.~-]){re.escape(path)}(?![\w-]|\.\w)", known[path].replace("\\", r"\\"), text
            )
    text = _QUOTED_PATH.sub(lambda match: f"{match[0][0]}{Path(match[0][1:-1]).name}{match[0][-1]}", text)
    return _BARE_PATH.sub(lambda match: Path(match[0]).name, text)


def without_paths_in(value: Any, *folders: Path) -> Any:
    """Return a JSON value with `without_paths` of every text; a text that is one path is cut to its last part."""
    if isinstance(value, dict):
        return {key: without_paths_in(item, *folders) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [without_paths_in(item, *folders) for item in value]
    if not isinstance(value, str):
        return value
    is_path = value.startswith(("/", "~")) and not _MESSAGE.search(value)
    return (Path(value).name or value) if is_path else without_paths(value, *folders)


class Filtered:
    """A text stream that changes what is written to it."""

    def __init__(self, stream: IO[str], change: Callable[[str], str]):
        self._stream = stream
        self._change = change

    def write(self, text: str) -> int:
        """Writes the changed text."""
        self._stream.write(self._change(text))
        return len(text)

    @property
    def unfiltered(self) -> IO[str]:
        """The stream below, for text that is safe already and moves the cursor."""
        return self._stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


@contextlib.contextmanager
def terminal() -> Iterator[None]:
    """Whatever is printed in the block, names of files and groups among it, is `printable`."""
    out, err = (cast(TextIO, Filtered(stream, printable)) for stream in (sys.stdout, sys.stderr))
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        yield
