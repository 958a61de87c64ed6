"""Drafts the table of cases from a folder: pseudonyms, attributes and paths, without what identifies a patient."""

import collections
import dataclasses
import itertools
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pandas as pd

from kneefair_jax.data import identifiers, label_map, mask_files, readers
from kneefair_jax.data.draft import clinical_table, identity, pairing, scan
from kneefair_jax.data.draft.clinical_table import ClinicalTable
from kneefair_jax.data.draft.identity import Identifiers
from kneefair_jax.data.draft.join import Join, join
from kneefair_jax.data.draft.scan import File
from kneefair_jax.errors import InputError

type Track = Callable[[Iterable[set[int]], int], Iterable[set[int]]]
COLUMNS = (
    *("case_id", "patient_id", "image", "mask", "sex", "age", "site", "manufacturer", "side", "view"),
    *("spacing_mm", "header_spacing_mm", "spacing_kind"),
)
_HIGH = label_map.MAX_UNNAMED + 1  # the lowest value of a mask that needs a name
_BATCH = 16  # masks that are read before their values are compared
_REMEDIES = {
    "sex": "add it with --table, or fill in male and female",
    "age": "add it with --table, or fill in years",
    "site": "add it with --table, or remove the column",
    "manufacturer": "fill it in, or leave it empty",
    "side": "fill in left, right or both",
    "view": "fill in AP, PA, lateral, ..., or leave it empty",
    "spacing_mm": "fill in mm per pixel; without it, areas and distances in mm are unknown",
}


@dataclasses.dataclass(frozen=True)
class Options:
    """What to draft.

    Attributes:
        images: folder of the films below the root; "" to search everywhere.
        masks: folder of the masks below the root; "" to tell them by names.
        structures: names in the files of masks that have one file a structure.
        patient_pattern: regular expression whose group is the patient's ID in the path of a film without header.
        allow_similar_ids: whether the table's IDs may differ from those of the headers by zeros, case or spaces.
        key: secret bytes of the pseudonyms.
        has_links: whether the films get pseudonymous names in a folder of their own.
    """

    key: bytes = dataclasses.field(repr=False)
    images: str = ""
    masks: str = ""
    structures: tuple[str, ...] = ()
    patient_pattern: str = ""
    allow_similar_ids: bool = False
    has_links: bool = False


@dataclasses.dataclass(frozen=True)
class Draft:
    """The drafted table.

    Attributes:
        table: text, a row per case; `COLUMNS` and those of the user's table.
        links: path below the folder of links -> path below the root; empty without such a folder.
        unfilled: column -> number of empty cells, for columns with any.
        notes: on films, masks and rows that are not in the table, and on how the others were read.
    """

    table: pd.DataFrame
    links: Mapping[Path, Path]
    unfilled: Mapping[str, int]
    notes: tuple[str, ...]


def draft(files: scan.Scan, options: Options, table: ClinicalTable | None = None) -> Draft:
    """Draft the table of the films that have a mask, or of all films if there are no masks.

    Args:
        files: of the folder; its identifiers include those of the table.
        options: what to draft.
        table: the user's clinical table.

    Raises:
        InputError: there is no film, no film has a mask although there are masks, or a path identifies a patient and
            there is no folder of links.
    """
    pairs = pairing.pair(files.files, options.structures)
    films = [file for file in files.files if file.role == scan.FILM]
    masks = [file for file in files.files if file.role == scan.MASK]
    if not films:
        raise InputError(
            f"DIR: no film (masks: {len(masks)}, other files: {files.excluded.total()}); give the folder of the films, "
            "or name it with --images"
        )
    if masks and not pairs.masks:
        raise InputError(
            f"DIR: no mask fits a film (masks: {len(masks)}, films: {len(films)}); give a mask the name of its film, "
            "and name their folders with --images and --masks"
        )
    paired = [film for film in films if film.path in pairs.masks or not masks]
    patient_ids = _patient_ids(paired, pairs, options.patient_pattern)
    joined = None if table is None else join(paired, patient_ids, table, options.allow_similar_ids)
    patients, patient_notes = _patients(paired, patient_ids, joined, options.allow_similar_ids)
    for patient in patient_ids:  # a pattern may find IDs that no header has
        files.identifiers.add(patient)
    pseudonyms = identity.pseudonyms(patients, options.key, files.identifiers)
    rows: list[dict[str, str]] = []
    links: dict[Path, Path] = {}
    order = sorted(range(len(paired)), key=lambda i: (pseudonyms[patients[i]], paired[i].tags.study, i))
    visits: collections.Counter[str] = collections.Counter()
    sites: dict[str, str] = {}
    for index in order:
        film, patient = paired[index], pseudonyms[patients[index]]
        visits[patient] += 1
        row = {"case_id": f"{patient}-{visits[patient]}", "patient_id": patient}
        row |= _attributes(film, joined.values[index] if joined else {}, sites, files.identifiers)
        mask = pairs.masks.get(film.path)
        if options.has_links:
            names = _link_names(row["case_id"], film, mask, options.structures)
            links.update(names.links)
            row |= {"image": names.image, "mask": names.mask}
        else:
            row |= {"image": film.path.as_posix(), "mask": mask.path.as_posix() if mask else ""}
        rows.append(row)
    extra = [name for name in (table.columns if table else ()) if name not in COLUMNS]
    frame = pd.DataFrame(rows, columns=[*COLUMNS, *extra], dtype=str).fillna("")
    if not options.has_links:
        _require_anonymous_paths(frame, files.identifiers)
    notes = [
        *_file_notes(files, films, masks, pairs),
        *patient_notes,
        *(table.notes if table else ()),
        *(joined.notes if joined else ()),
        *_privacy_notes(paired, frame, options),
    ]
    return Draft(frame, links, _unfilled(frame), tuple(notes))


def mask_structures(root: Path, result: Draft, track: Track = lambda items, total: items) -> dict[str, str]:
    """Return structure -> its value in the masks; {} if they have no values, or both numbers and higher values.

    The values 1, 2, ... up to `label_map.MAX_UNNAMED` are the structures' numbers. Beside them, a higher value may be
    void; `kneefair check` reports it, and no further batch is read.

    Args:
        root: the folder of the films and masks.
        result: the draft; unreadable masks, and DICOM-SEG, whose segments have names, are skipped.
        track: wraps the masks and takes their number.
    """

    def values_of(path: Path) -> set[int]:
        try:
            return set(np.unique(mask_files.read(path, {}).values).tolist())
        except InputError:
            return set()

    paths = [root / result.links.get(Path(mask), mask) for mask in result.table["mask"] if mask]

    def read() -> Iterator[set[int]]:
        with ThreadPoolExecutor() as pool:
            for batch in itertools.batched(paths, _BATCH):
                yield from pool.map(values_of, batch)

    values: set[int] = set()
    for mask_values in track(read(), len(paths)):
        values |= mask_values - {0}
        if values and min(values) < _HIGH <= max(values):
            return {}
    is_number = max(values, default=0) < _HIGH
    numbers = enumerate(sorted(values), start=1)
    return {f"structure {value if is_number else number}": str(value) for number, value in numbers}


def remedy(column: str) -> str:
    """Return what to do about the empty cells of a column."""
    return _REMEDIES.get(column, "fill it in, or leave it empty")


def _patient_ids(films: Sequence[File], pairs: pairing.Pairing, pattern: str) -> list[str]:
    """Return the patients' IDs: of the film's header, of its mask's, or by the pattern; "" where unknown."""
    patient_ids = []
    for film in films:
        mask = pairs.masks.get(film.path)
        match = re.search(pattern, film.path.as_posix()) if pattern else None
        patient_ids.append(
            film.tags.patient_id
            or (mask.tags.patient_id if mask else "")
            or (match[1] if match and match[1] else "")
        )
    return patient_ids


def _patients(
    films: Sequence[File], patient_ids: Sequence[str], joined: Join | None, allow_similar: bool
) -> tuple[list[str], list[str]]:
    """Return a unique text for the patient of each film, and notes.

    A PatientID is one patient, unless all its films state an issuer and these differ. Two patients under one ID stay in
    one split of a study; one patient under two IDs would be in training and in test.
    """
    similar = identifiers.similar_identifiers(patient for patient in patient_ids if patient)
    if allow_similar:
        first = {patient: group[0] for group in similar for patient in group}
        patient_ids = [first.get(patient, patient) for patient in patient_ids]
    issuers = collections.defaultdict(set)
    births = collections.defaultdict(set)
    for film, patient_id in zip(films, patient_ids, strict=True):
        issuers[patient_id].add(film.tags.issuer)
        births[patient_id].add(film.tags.birth)
    patients, unknown = [], 0
    for index, (film, patient_id) in enumerate(zip(films, patient_ids, strict=True)):
        in_table = joined.patients[index] if joined else ""
        if patient_id and "" not in issuers[patient_id]:
            patients.append(f"id\0{patient_id}\0{film.tags.issuer}")
        elif patient_id or in_table:
            patients.append(f"id\0{patient_id or in_table}\0")
        elif film.tags.issuer:
            patients.append(f"name\0{film.tags.issuer}")
        else:
            unknown += 1
            patients.append(f"file\0{film.path.as_posix()}")
    notes = []
    if similar and not allow_similar:
        notes.append(
            f"patient IDs that look like another one (by zeros, case or spaces): {sum(map(len, similar))}; if they are "
            "the same patients, give --allow-similar-ids, as films of a patient must not be in training and in test"
        )
    if unknown:
        notes.append(
            f"films without a patient: {unknown}, each now a patient of its own; if patients have several films, give "
            "--patient-pattern 'REGEX' with a group of the ID in the path, or --table with columns image and patient_id"
        )
    if several := sum(len(dates - {""}) > 1 for patient, dates in births.items() if patient):
        notes.append(f"patient IDs with several dates of birth: {several}; if they are several patients, correct "
                     "patient_id")  # fmt: skip
    return patients, notes


def _attributes(
    film: File, stated: Mapping[str, str], sites: dict[str, str], identities: Identifiers
) -> dict[str, str]:
    """Return the attributes of a case: those of the table, or else those of the header."""
    tags = film.tags
    birth, study = stated.get("birth", ""), stated.get("study") or tags.study
    age = stated.get("age") or scan.age_in_years("", birth, study) or tags.age
    site = stated.get("site") or tags.site
    manufacturer = identifiers.visible(tags.manufacturer)
    row = {
        "sex": tags.sex,
        "manufacturer": "" if identities.found_in(manufacturer) else manufacturer,
        "side": tags.side,
        "view": tags.view,
        "spacing_mm": "",  # a value would replace the header's, and its kind
        "header_spacing_mm": tags.spacing,
        "spacing_kind": tags.spacing_kind,
    }
    row |= {name: cell for name, cell in stated.items() if cell and name not in ("birth", "study")}
    # The institution's name is not written; the number is that of its first case.
    numbered = sites.setdefault(identifiers.canonical(site), f"site-{len(sites) + 1}") if site else ""
    return row | {"age": clinical_table.top_coded(age), "site": numbered}


@dataclasses.dataclass(frozen=True)
class _LinkNames:
    image: str
    mask: str
    links: Mapping[Path, Path]


def _link_names(case: str, film: File, mask: File | None, structures: Sequence[str]) -> _LinkNames:
    """Return the pseudonymous names of a case's files, and the files that they stand for."""

    def name(folder: str, stem: str, source: Path) -> Path:
        return Path(folder, stem + (readers.suffix_of(source.name) or readers.DICOM_SUFFIXES[0]))

    image = name("images", case, film.path)
    links = {image: film.path}
    if mask is None:
        return _LinkNames(image.as_posix(), "", links)
    if not mask.parts:
        path = name("masks", case, mask.path)
        return _LinkNames(image.as_posix(), path.as_posix(), links | {path: mask.path})
    for structure, part in zip(structures, mask.parts, strict=True):
        links[name("masks", f"{case}_{structure.replace(' ', '_')}", part)] = part
    return _LinkNames(image.as_posix(), f"masks/{case}", links)


def _require_anonymous_paths(frame: pd.DataFrame, identities: Identifiers) -> None:
    """Refuse paths that contain an identifier; the message does not repeat them."""
    paths = pd.unique(frame[["image", "mask"]].to_numpy().ravel())
    if count := sum(identities.found_in(path) for path in paths):
        raise InputError(
            f"DIR: {count} of {len(paths)} paths contain a name, an ID, a UID or a date of a header or the table, and "
            "metadata.csv would repeat them; give --link-dir DIR2, an empty folder for the same files under pseudonyms"
        )


def _file_notes(
    files: scan.Scan, films: Sequence[File], masks: Sequence[File], pairs: pairing.Pairing
) -> Iterable[str]:
    ways = ", ".join(f"{count} by {way}" for way, count in pairs.counts.items() if count)
    yield f"films: {len(films)}, {len(pairs.masks)} with a mask{f' ({ways})' if ways else ''}"
    if not masks:
        yield "there are no masks; the column mask is empty, and training, check and audit need it"
    elif missing := len(films) - len(pairs.masks):
        yield (
            f"films without a mask, or with several candidates: {missing}, not in the table; give each mask the name "
            "of its film"
        )
    if pairs.unused:
        yield f"masks without a film, or with several candidates: {pairs.unused}"
    if pairs.conflicts:
        yield f"masks that state another patient than their film: {pairs.conflicts}, not used; correct them"
    for reason, count in sorted(files.excluded.items()):
        yield f"other files, {reason}: {count}"


def _privacy_notes(films: Sequence[File], frame: pd.DataFrame, options: Options) -> Iterable[str]:
    old = int((frame["age"] == str(clinical_table.OLDEST)).sum())
    if old:
        yield f"ages of {clinical_table.OLDEST} years or more, written as {clinical_table.OLDEST}: {old}"
    without = sum(not film.has_header for film in films)
    if without and not options.has_links:
        yield (
            f"films without a DICOM header with which their paths could be compared: {without}; read the columns image "
            "and mask before you share the table, or give --link-dir"
        )


def _unfilled(frame: pd.DataFrame) -> dict[str, int]:
    counts = {name: int((frame[name] == "").sum()) for name in frame if name not in ("header_spacing_mm",)}
    no_spacing = (frame["spacing_mm"] == "") & (frame["header_spacing_mm"] == "")
    counts["spacing_mm"] = int(no_spacing.sum())
    return {str(name): count for name, count in counts.items() if count}
