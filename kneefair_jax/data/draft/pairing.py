"""Pairs films with masks: by the film that a DICOM-SEG names, by the names of files, and by their folders."""

import collections
from collections.abc import Callable, Hashable, Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from kneefair_jax.data import mask_files, mask_names
from kneefair_jax.data.draft import scan
from kneefair_jax.data.draft.scan import File

_FILM_FOLDERS = (
    "image images img imgs film films imagestr imagests dicom dcm radiographs xray xrays bilder data"
)
_FOLDERS = mask_names.FOLDERS | set(_FILM_FOLDERS.split())
_CHANNEL = "_0000"  # nnU-Net's name of the first channel


class Pairing(NamedTuple):
    """Films and their masks.

    Attributes:
        masks: film -> its mask. The path of a mask in one file a structure is that of a cell of the table.
        counts: way of pairing -> number of films.
        conflicts: masks whose header names another patient than that of the film.
        unused: number of masks without a film.
    """

    masks: dict[Path, File]
    counts: collections.Counter[str]
    conflicts: int
    unused: int


def pair(files: Sequence[File], structures: Sequence[str] = ()) -> Pairing:
    """Pair each film with one mask; a film or a mask with several candidates stays alone.

    Args:
        files: films and masks.
        structures: names in the files of masks that have one file a structure.
    """
    films = [file for file in files if file.role == scan.FILM]
    masks = _join_structures([file for file in files if file.role == scan.MASK], structures)
    pairs: dict[Path, File] = {}
    counts: collections.Counter[str] = collections.Counter()
    conflicts: set[Path] = set()

    def match(way: str, film_key: Callable[[File], Hashable], mask_key: Callable[[File], Hashable]) -> None:
        """Pair the films and masks that remain and are the only ones with their key."""
        used = {mask.path for mask in pairs.values()}
        candidates = _unique((mask_key(mask), mask) for mask in masks if mask.path not in used)
        for key, film in _unique((film_key(film), film) for film in films if film.path not in pairs).items():
            mask = candidates.get(key)
            if mask is None:
                continue
            if film.tags.patient_id and mask.tags.patient_id not in ("", film.tags.patient_id):
                conflicts.add(mask.path)
                continue
            pairs[film.path] = mask
            counts[way] += 1

    uids = {film.uid for film in films if film.uid}

    def reference(mask: File) -> str:
        named = mask.references & uids
        return next(iter(named)) if len(named) == 1 else ""

    match("the film that a DICOM-SEG names", lambda film: film.uid, reference)
    match(
        "folder and name",
        lambda film: (_context(film.path), _key(film.path)),
        lambda mask: (_context(mask.path), _key(mask.path)),
    )
    _match_names(films, masks, match)
    single = _unique((_context(film.path), film) for film in films)  # of all films, paired or not
    single_masks = _unique((_context(mask.path), mask) for mask in masks)
    single_paths = {file.path for folders in (single, single_masks) for file in folders.values()}

    def folder(file: File) -> tuple[str, ...]:
        return _context(file.path) if file.path in single_paths else ()

    match("folder", folder, folder)
    used = {mask.path for mask in pairs.values()}
    return Pairing(pairs, counts, len(conflicts - used), sum(mask.path not in used for mask in masks))


def _match_names(
    films: Sequence[File],
    masks: Sequence[File],
    match: Callable[[str, Callable[[File], Hashable], Callable[[File], Hashable]], None],
) -> None:
    """Pair files of one name whose folders do not contradict each other, as `dicom/p1/a.dcm` and `masks/a.png`."""
    film_of = _unique((_key(film.path), film) for film in films)
    mask_of = _unique((_key(mask.path), mask) for mask in masks)
    names = {
        key
        for key in film_of.keys() & mask_of.keys()
        if _contains(_context(film_of[key].path), _context(mask_of[key].path))
    }

    def key(file: File) -> str:
        name = _key(file.path)
        return name if name in names else ""

    match("name", key, key)


def _unique[K: Hashable](pairs: Iterable[tuple[K, File]]) -> dict[K, File]:
    """Return the files that are the only ones with their key; an empty key matches nothing."""
    files: dict[K, list[File]] = collections.defaultdict(list)
    for key, file in pairs:
        if key:
            files[key].append(file)
    return {key: group[0] for key, group in files.items() if len(group) == 1}


def _context(path: Path) -> tuple[str, ...]:
    """Return the folders of a file in lower case, without those such as `images` and `masks`."""
    return tuple(part.lower() for part in path.parent.parts if part.lower() not in _FOLDERS)


def _contains(first: tuple[str, ...], second: tuple[str, ...]) -> bool:
    """Return whether the parts of one tuple occur in the other one, in their order."""
    short, long = sorted((first, second), key=len)
    rest = iter(long)
    return all(part in rest for part in short)


def _key(path: Path) -> str:
    """Return what the names of a film and of its mask have in common."""
    return mask_names.film_stem(path).lower().removesuffix(_CHANNEL)


def _join_structures(masks: Sequence[File], structures: Sequence[str]) -> list[File]:
    """Return the masks, those of one file for every structure as one."""
    parts: dict[Path, dict[str, File]] = collections.defaultdict(dict)
    for mask in masks:
        path = mask.path.parent / mask_names.stem(mask.path)
        for structure in structures:
            for ending in mask_files.structure_stems("", structure):
                base = str(path).removesuffix(ending)
                if base != str(path) and base:
                    parts[Path(base)][structure] = mask
    complete = {base: files for base, files in parts.items() if len(files) == len(structures) > 1}
    joined = {file.path for files in complete.values() for file in files.values()}
    joined_masks = [
        File(
            base,
            scan.MASK,
            next(iter(files.values())).tags,
            parts=tuple(file.path for file in files.values()),
        )
        for base, files in complete.items()
    ]
    return [*(mask for mask in masks if mask.path not in joined), *joined_masks]
