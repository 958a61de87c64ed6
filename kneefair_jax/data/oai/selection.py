"""Finds films in the OAI's folder tree, selects the usable ones, and pairs them with masks by name.

The tree is `00m/0.C.2/<ID>/<yyyymmdd>/<8 digits>/001`, by visit. Patient, series, spacing and quality decide which
films are usable.
"""

import os
import re
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

from kneefair_jax.data import readers
from kneefair_jax.data.oai import films as film_files
from kneefair_jax.data.oai import tables
from kneefair_jax.data.oai.films import Film
from kneefair_jax.data.source import Exclusion
from kneefair_jax.errors import InputError

QUALITY = ("ACCEPT", "ALIGN", "CENTER", "DEPICT", "EXPOSE", "MOTION", "POSITN")
_THREADS = 16  # headers are small, and their files far apart
# A visit's number in the tables -> its folder of images.
VISITS = {"00": "00m", "01": "12m", "03": "24m", "05": "36m", "06": "48m", "08": "72m", "10": "96m"}
CONTENTS = "contents.csv"
_CONTENTS_COLUMNS = ("PARTICIPANTID", "BARCODE", "SERIESDESCRIPTION", "FOLDER")


def select(
    films: Sequence[Film],
    oai_tables: Mapping[str, tables.Table],
    enrollees: Collection[str],
    quality: Mapping[str, str],
    *,
    must_be_named: bool,
) -> tuple[list[Film], list[Exclusion]]:
    """Read the header of every film and return the usable films.

    Args:
        films: candidates.
        oai_tables: by lower-case stem.
        enrollees: patients in the table of enrollees.
        quality: name of `QUALITY` -> comma-separated codes or labels that a film may have in the column of its visit
            (`V00ACCEPT`), "" for any. A film without a value is excluded, as is one with a value outside the list.
        must_be_named: whether a film is excluded if no source states its series.

    Returns:
        The usable films, with spacing and barcode, and the excluded ones with all reasons.

    Raises:
        InputError: the tables lack a quality column.
    """
    accepted = {
        name: {text.strip().lower() for text in str(quality[name]).split(",")} - {""} for name in QUALITY
    }
    accepted = {name: allowed_values for name, allowed_values in accepted.items() if allowed_values}
    visits = {film.visit for film in films}
    checks = [
        _quality_check(oai_tables, visit, name, allowed_values)
        for visit in visits
        for name, allowed_values in accepted.items()
    ]
    usable: list[Film] = []
    excluded: list[Exclusion] = []
    with ThreadPoolExecutor(_THREADS) as pool:
        for film, reasons in pool.map(partial(film_files.inspect, must_be_named=must_be_named), films):
            if film.patient not in enrollees:
                reasons.append("its patient is not in Enrollees")
            reasons += [reason for check in checks if (reason := check(film))]
            if reasons:
                excluded.append((film.name, "; ".join(reasons)))
            else:
                usable.append(film)
    return usable, excluded


def require_films(films: Sequence[Film], excluded: Sequence[Exclusion], root: str) -> None:
    """Require at least one film.

    Raises:
        InputError: there is none; the message has the five most frequent reasons.
    """
    if not films:
        reasons = Counter(reason for _, reason in excluded).most_common(5)
        text = "".join(f"\n{count} x {reason}" for reason, count in reasons) or " there is none"
        raise InputError(f"{root}: no film can be used:{text}")


def _quality_check(
    oai_tables: Mapping[str, tables.Table], visit: str, name: str, allowed_values: set[str]
) -> Callable[[Film], str]:
    """Return a function: film -> why its quality is not in `allowed_values`, or ""."""
    column_name = f"V{visit}{name}"
    column = tables.column(oai_tables, column_name)
    if column is None or not column.by_film:
        raise InputError(
            f"config.data.quality.{name}: no table has {column_name} by barcode; add XRay{visit}.txt to data.tables, "
            "or set it to ''"
        )
    cells = column.cells

    def check(film: Film) -> str:
        if film.visit != visit:
            return ""
        values = cells.get((film.barcode, ""), [])
        if not values:
            return f"no {column_name} for its barcode"
        is_allowed = all(
            {tables.code(cell).lower(), tables.label(cell).lower()} & allowed_values for cell in values
        )
        return "" if is_allowed else f"{column_name} is not as data.quality.{name} asks"

    return check


def masks_by_name(folder: Path) -> dict[str, Path]:
    """Return the masks of a folder by lower-case name without suffix; a JPEG is a preview, not a mask.

    Raises:
        InputError: two names differ only in suffix or case.
    """
    masks: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        name = path.name.lower()
        suffix = readers.suffix_of(name)
        if not suffix or suffix in readers.JPEG_SUFFIXES or name.startswith(".") or not path.is_file():
            continue
        if duplicate := masks.get(name.removesuffix(suffix)):
            raise InputError(f"{path} and {duplicate.name} are masks of the same name; keep one of them")
        masks[name.removesuffix(suffix)] = path
    return masks


def pair_masks(films: Sequence[Film], folder: Path) -> tuple[list[Film], list[Exclusion], list[Exclusion]]:
    """Find the mask of each film: the file named by the case, the barcode (8 or all 12 digits) or the patient's ID.

    The ID counts for a patient with one film.

    Returns:
        The films with a mask, the films without one, and an entry on the masks that match no film.

    Raises:
        InputError: two masks have one name, or no mask matches a film.
    """
    masks = masks_by_name(folder)
    film_counts = Counter(film.patient for film in films)
    films_with_mask: list[Film] = []
    excluded: list[Exclusion] = []
    for film in films:
        names = [film.name, film.barcode, f"0166{film.barcode}", f"166{film.barcode}"]
        mask = next((masks[name] for name in names if name in masks), None)
        if mask is None and film.patient in masks and film_counts[film.patient] > 1:
            excluded.append((film.name, "its mask is named by the ID of a patient with several films"))
        elif mask is None and film.patient not in masks:
            excluded.append((film.name, "no mask in data.masks"))
        else:
            films_with_mask.append(film._replace(mask=mask or masks[film.patient]))
    if films and not films_with_mask:
        content = (
            f"the folder has {next(iter(masks.values())).name!r}"
            if masks
            else "the folder has none (a JPEG is no mask)"
        )
        raise InputError(
            f"{folder}: no mask fits a film. The mask of film {films[0].name} is {films[0].name}.nii.gz, "
            f"{films[0].barcode}.nii.gz, or, if the patient has one film, {films[0].patient}.nii.gz (or .png); "
            f"{content}"
        )
    unused = len(masks) - len({film.mask for film in films_with_mask})
    return films_with_mask, excluded, [(f"{unused} masks", "fit no film in use")] if unused else []


def find_films(root: Path, visits: Sequence[str]) -> tuple[list[Film], list[Exclusion], list[Exclusion]]:
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
