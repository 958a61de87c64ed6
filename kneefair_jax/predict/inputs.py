"""Files, folders and globs -> the image files, and what the results of each are called."""

import glob
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from kneefair_jax.data import file_lookup, readers
from kneefair_jax.data.readers import limits
from kneefair_jax.errors import InputError


class Input(NamedTuple):
    """A file and the name of its results, without ending: below a given folder, the path there."""

    path: Path
    name: str


def find(given: Sequence[str], out: Path) -> Iterator[Input | InputError]:
    """The files that are meant, in order; an error in place of one that is none, or of a folder that cannot be listed.

    Of a folder, and those below it, the files that readers know by their ending or that are DICOM; the rest is passed
    over, and so are hidden files, everything in `out`, and links to folders.

    Raises:
        InputError: a folder is `out`, or in it: results could be taken for films.
    """
    first: dict[str, Path] = {}
    for item in _listed(given, out.resolve()):
        if isinstance(item, Input) and item.name in first:
            other = first[item.name]
            real, other_real = os.path.realpath(item.path), os.path.realpath(other)
            if real == other_real:
                continue  # given twice
            remedy = "rename one of the two"
            if os.path.dirname(real) != os.path.dirname(other_real):
                remedy += ", or give the folder that holds both"
            yield InputError(
                f"{item.path}: its results would be called {item.name!r}, as those of {other}; {remedy}"
            )
            continue
        if isinstance(item, Input):
            first[item.name] = item.path
        yield item


def _listed(given: Sequence[str], out: Path) -> Iterator[Input | InputError]:
    for text in given:
        path = Path(text)
        if os.path.isdir(path):
            if path.resolve().is_relative_to(out):
                raise InputError(
                    f"--out {out} is, or holds, the folder of films {path}: results and films would mix; "
                    "choose another folder for --out"
                )
            files: list[Input | InputError] = [
                file if isinstance(file, InputError) else Input(file, _stem(file.relative_to(path)))
                for file in _within(path, out)
            ]
            yield from files or [InputError(f"{path}: no image files in this folder")]
        elif limits.is_present(path) or not glob.has_magic(text):
            yield Input(path, _stem(Path(path.name)))
        elif matches := sorted(filter(limits.is_present, map(Path, glob.glob(text, recursive=True)))):
            yield from (Input(file, _stem(Path(file.name))) for file in matches)
        else:
            yield InputError(f"{text}: no file matches")


def _within(folder: Path, out: Path) -> Iterator[Path | InputError]:
    paths, errors = file_lookup.list_files(folder)
    yield from errors
    for path in paths:
        hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
        is_output = Path(os.path.realpath(path)).is_relative_to(out)
        if not hidden and not is_output and (readers.suffix_of(path.name) or readers.has_dicom_magic(path)):
            yield path


def _stem(path: Path) -> str:
    name = path.as_posix()
    return name[: len(name) - len(readers.suffix_of(name))]
