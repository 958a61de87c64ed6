"""Finds the films in the OAI's folder tree: `00m/0.C.2/<ID>/<yyyymmdd>/<8 digits>/001`, by visit."""

import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from kneefair_jax.data.oai import tables
from kneefair_jax.data.oai.films import Film
from kneefair_jax.data.source import Exclusion
from kneefair_jax.errors import InputError

# A visit's number in the tables -> its folder of images.
VISITS = {"00": "00m", "01": "12m", "03": "24m", "05": "36m", "06": "48m", "08": "72m", "10": "96m"}
CONTENTS = "contents.csv"
_CONTENTS_COLUMNS = ("PARTICIPANTID", "BARCODE", "SERIESDESCRIPTION", "FOLDER")


def films(root: Path, visits: Sequence[str]) -> tuple[list[Film], list[Exclusion], list[Exclusion]]:
    """Return the X-rays of some visits; only `contents.csv` is read.

    A visit's `contents.csv` lists its films; without it, the tree is walked.

    Args:
        root: the folder of `00m`, `12m`, ...
        visits: keys of `VISITS`.

    Returns:
        Films by name, excluded films, and an entry a visit on folders or rows of other kinds of images.

    Raises:
        InputError: a visit is unknown, or its folder does not exist.
    """
    if not visits or len(set(visits)) < len(visits) or not set(visits) <= set(VISITS):
        options = ", ".join(f"{visit} ({folder})" for visit, folder in VISITS.items())
        raise InputError(f"config.data.visits={tuple(visits)}: give one or more of {options}, each once")
    films_by_name: dict[str, Film] = {}
    excluded: list[Exclusion] = []
    unused: list[Exclusion] = []
    for visit in visits:
        folder = next((path for path in _folders(root) if path.name.lower() == VISITS[visit]), None)
        if folder is None:
            raise InputError(
                f"{root} holds no folder {VISITS[visit]} (visit {visit}); set data.root to the folder that holds "
                "00m, 12m, ..., and data.visits to those you have"
            )
        contents = next((path for path in folder.iterdir() if path.name.lower() == CONTENTS), None)
        films_of_visit = (
            _films_by_contents(contents, visit, excluded, unused)
            if contents
            else _films_by_walk(folder, visit, excluded, unused)
        )
        for film in films_of_visit:
            if film.name in films_by_name:
                excluded.append((film.name, "a second folder with the same barcode"))
            else:
                films_by_name[film.name] = film
    return [films_by_name[name] for name in sorted(films_by_name)], excluded, unused


def _films_by_walk(
    folder: Path, visit: str, excluded: list[Exclusion], unused: list[Exclusion]
) -> Iterator[Film]:
    no_xrays = 0
    for release in _folders(folder):
        for patient in _folders(release, r"\d{7}"):
            for date in _folders(patient, r"\d{8}"):
                for series in _folders(date, r"\d{8}"):
                    if series.name.startswith("0"):
                        yield from _film(series, patient.name, visit, "", excluded)
                    else:
                        no_xrays += 1
    if no_xrays:
        unused.append(
            (f"{folder.name}: {no_xrays} folders", "no X-rays, as their numbers lack the leading 0")
        )


def _films_by_contents(
    contents: Path, visit: str, excluded: list[Exclusion], unused: list[Exclusion]
) -> Iterator[Film]:
    table = tables.header(contents)
    if table is None or set(_CONTENTS_COLUMNS) - set(table.columns):
        raise InputError(
            f"{contents}: not a list of contents with the columns ParticipantID, Barcode, SeriesDescription and "
            "Folder; download it again, or remove it, and the folders are walked instead"
        )
    no_xrays = 0
    for line, *cells in tables.read(table, _CONTENTS_COLUMNS).itertuples():
        patient, number, description, folder = map(str, cells)
        patient = tables.code(patient)
        parts = [part for part in re.split(r"[/\\]+", folder) if part]
        number = tables.barcode(number) or (tables.barcode(parts[-1]) if parts else "")
        if not re.fullmatch(r"\d{7}", patient) or not number:
            excluded.append(
                (f"{contents.name} row {line}", "no ParticipantID of seven digits, or no barcode")
            )
        elif not number.startswith("0"):
            no_xrays += 1
        elif (series := _series(contents.parent, parts, patient, number)) is None:
            excluded.append((_name(patient, visit, number), "in contents.csv, but not in the download"))
        else:
            yield from _film(series, patient, visit, description, excluded)
    if no_xrays:
        unused.append(
            (f"{contents.parent.name}: {no_xrays} rows", "no X-rays, as their barcodes lack the leading 0")
        )


def _series(folder: Path, parts: Sequence[str], patient: str, number: str) -> Path | None:
    """Return the folder of a film: the listed one, below the visit or beside it, or else any with the same barcode.

    Lists of contents that lost leading zeros name folders that do not exist.
    """
    listed_folders = [start.joinpath(*parts[:-1], number) for start in (folder, folder.parent) if parts]
    date_folders = (
        date / number for release in _folders(folder) for date in _folders(release / patient, r"\d{8}")
    )
    return next((path for path in (*listed_folders, *date_folders) if path.is_dir()), None)


def _film(
    series: Path, patient: str, visit: str, description: str, excluded: list[Exclusion]
) -> Iterator[Film]:
    name = _name(patient, visit, series.name)
    path = next((path for path in sorted(series.iterdir()) if path.stem == "001"), None)
    if path is None:
        excluded.append((name, "no file 001 in its folder"))
    else:
        yield Film(name, patient, visit, series.name, path, description)


def _name(patient: str, visit: str, number: str) -> str:
    return f"{patient}_{VISITS[visit]}_{number}"


def _folders(folder: Path, pattern: str = r".*") -> list[Path]:
    if not folder.is_dir():
        return []
    with os.scandir(folder) as entries:
        names = [entry.name for entry in entries if re.fullmatch(pattern, entry.name) and entry.is_dir()]
    return [folder / name for name in sorted(names)]
