"""Resolve files, folders and globs to image files, name the results of each, and look up the group of each."""

import glob
import logging
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from kneefair_jax.data import cell_text, column_names, identifiers, mask_files, metadata, readers
from kneefair_jax.data.readers import limits
from kneefair_jax.errors import InputError

logger = logging.getLogger(__name__)


class Input(NamedTuple):
    """A file and the name of its results, without ending: its path below the folder that was given."""

    path: Path
    name: str


def find(arguments: Sequence[str], out: Path) -> Iterator[Input | InputError]:
    """Yield the image files in order, and an error for each file or folder that cannot be used.

    Of a folder, and those below it, these are the files that readers know by their ending or that are DICOM. Hidden
    files, everything in `out`, and links to folders are skipped.

    Args:
        arguments: files, folders and globs.
        out: the output folder.

    Raises:
        InputError: a folder is `out`, or in it: results could be taken for films.
    """
    path_of: dict[str, Path] = {}
    for item in _candidates(arguments, out.resolve()):
        if isinstance(item, Input) and item.name in path_of:
            other = path_of[item.name]
            real, other_real = os.path.realpath(item.path), os.path.realpath(other)
            if real == other_real:
                continue  # the same file twice
            remedy = "rename one of the two"
            if os.path.dirname(real) != os.path.dirname(other_real):
                remedy += ", or give the folder that holds both"
            yield InputError(
                f"{item.path}: its results would be called {item.name!r}, as those of {other}; {remedy}"
            )
            continue
        if isinstance(item, Input):
            path_of[item.name] = item.path
        yield item


def groups_of_cases(path: Path, names: Sequence[str], *, allow_similar: bool = False) -> dict[str, str]:
    """Return the group of each case, as the networks' groups are called; log notes on how the table was read.

    Args:
        path: a CSV table with `case_id` and a column for each attribute of the groups; other columns are ignored.
        names: of the groups that have a network: `sex=female,race=A`.
        allow_similar: whether case ids may look alike.

    Returns:
        case id -> group.

    Raises:
        InputError: the networks serve all groups, or the table cannot be read, lacks a column, has a case twice or one
            of a group without a network.
    """
    if not names:
        raise InputError(
            "--metadata states each film's group, but these networks serve all groups; leave it out"
        )
    table, written, notes = metadata.read(path)
    attributes = re.findall(r"(?:^|,)([^=,]+)=", names[0])
    if missing := [column for column in ("case_id", *attributes) if column not in table]:
        raise InputError(
            f"{path}: no column {missing[0]!r}, which {names[0]!r} needs{column_names.suggestion(missing[0], table)}; "
            f"it has {', '.join(table)}"
        )
    problems: list[metadata.Problem] = []
    options = metadata.Options(similar="--allow-similar-ids", allow_similar=allow_similar)
    metadata.check_identifiers(table, problems, ("case_id",), options)
    if "patient_id" in table and not allow_similar:
        patients = table["patient_id"][~table["patient_id"].map(cell_text.is_missing)]
        problems += identifiers.similar(dict(patients.items()), "patient_id", "patient", options.similar)
    groups = {}
    for row, case in table["case_id"].items():
        group = ",".join(f"{attribute}={table.at[row, attribute]}" for attribute in attributes)
        if group not in names:
            networks = ", ".join(map(repr, names))
            problems.append(
                (row, f"case {case!r} is of group {group!r}, which has no network; there are {networks}")
            )
        groups[case] = group
    metadata.refuse(path, problems)
    for note in [*notes, *metadata.word_notes(written, attributes)]:
        logger.info("note: %s", note)
    return groups


def _candidates(arguments: Sequence[str], out: Path) -> Iterator[Input | InputError]:
    """Yield the files of each argument, or an error for it; a file may occur several times."""
    for text in arguments:
        path = Path(text)
        if os.path.isdir(path):
            if path.resolve().is_relative_to(out):
                raise InputError(
                    f"--out {out} is, or holds, the folder of films {path}: results and films would mix; "
                    "choose another folder for --out"
                )
            files: list[Input | InputError] = [
                file if isinstance(file, InputError) else Input(file, _stem(file.relative_to(path)))
                for file in _image_files(path, out)
            ]
            yield from files or [InputError(f"{path}: no image files in this folder")]
        elif limits.is_present(path) or not glob.has_magic(text):
            yield Input(path, _stem(Path(path.name)))
        elif matches := sorted(filter(limits.is_present, map(Path, glob.glob(text, recursive=True)))):
            yield from (Input(file, _stem(Path(file.name))) for file in matches)
        else:
            yield InputError(f"{text}: no file matches")


def _image_files(folder: Path, out: Path) -> Iterator[Path | InputError]:
    paths, errors = mask_files.list_files(folder)
    yield from errors
    for path in paths:
        is_hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
        is_output = Path(os.path.realpath(path)).is_relative_to(out)
        is_image = bool(readers.suffix_of(path.name)) or readers.has_dicom_magic(path)
        if is_image and not is_hidden and not is_output:
            yield path


def _stem(path: Path) -> str:
    name = path.as_posix()
    return name[: len(name) - len(readers.suffix_of(name))]
