"""Cases in the folder layout of Siddiqui et al. (doi 10.1038/s41598-024-66873-6), with the OAI's tables.

`Images/<id>.dcm` is a bilateral film, `Annotations/<id>.nii.gz` its mask with labels 0-8 (scheme `knees`). The id is,
or contains, that of the patient: the first group of exactly seven digits.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kneefair_jax.data import readers
from kneefair_jax.data.oai import cases, selection
from kneefair_jax.data.oai.films import Film
from kneefair_jax.data.oai.selection import VISITS
from kneefair_jax.data.source import Exclusion, Source
from kneefair_jax.errors import InputError

_ID = re.compile(r"(?<!\d)\d{7}(?!\d)")


def source(config: Mapping[str, Any], *, size: tuple[int, int]) -> Source:
    """Return the cases of the study's layout.

    The folders hold selected films, so a film without a stated series is included; one of another series is excluded.

    Args:
        config: `root`, the folder that holds `Images` and `Annotations`; `visit`, a key of `selection.VISITS`, at
            which the films were made; and what `oai.cases.build` reads.
        size: rows and columns of the working grid.

    Raises:
        InputError: a folder, a table, a column or every film is unusable.
    """
    root = cases.require_folder(config["root"], "data.root")
    if config["visit"] not in VISITS:
        raise InputError(f"config.data.visit={config['visit']!r}: give one of {', '.join(VISITS)}")
    oai_tables, enrollees = cases.read_tables(config)
    films, excluded, unused = _pair(
        _subfolder(root, "Images"), _subfolder(root, "Annotations"), config["visit"]
    )
    selection.require_films(films, [*excluded, *unused], str(root))
    usable, unusable = selection.select(films, oai_tables, enrollees, config["quality"], must_be_named=False)
    selection.require_films(usable, [*excluded, *unused, *unusable], str(root))
    return cases.build("siddiqui", usable, [*excluded, *unusable], oai_tables, config, size, unused)


def _subfolder(root: Path, name: str) -> Path:
    folder = next((path for path in sorted(root.iterdir()) if path.name.lower() == name.lower()), None)
    if folder is None or not folder.is_dir():
        raise InputError(
            f"{root} holds no folder {name}; set data.root to the one with Images and Annotations"
        )
    return folder


def _pair(images: Path, annotations: Path, visit: str) -> tuple[list[Film], list[Exclusion], list[Exclusion]]:
    """Return the films with a mask, the excluded films, and the files of both folders that are no films."""
    masks = selection.masks_by_name(annotations)
    files = [path for path in sorted(images.iterdir()) if not path.name.startswith(".")]
    dicom_files: dict[str, Path] = {}
    for path in (path for path in files if readers.suffix_of(path.name) in readers.DICOM_SUFFIXES):
        same_name = (film for film in dicom_files.values() if film.stem.lower() == path.stem.lower())
        if duplicate := next(same_name, None):
            raise InputError(f"{path} and {duplicate.name} are films of the same name; keep one of them")
        dicom_files[path.stem] = path
    films: list[Film] = []
    excluded: list[Exclusion] = []
    unused: list[Exclusion] = [
        (path.name, "no .dcm file") for path in files if path not in dicom_files.values()
    ]
    for name, path in dicom_files.items():
        patient = _ID.search(name)
        if patient is None:
            excluded.append((name, "its name contains no ID of seven digits"))
        elif name.lower() not in masks:
            excluded.append((name, "no mask in Annotations"))
        else:
            films.append(Film(name, patient[0], visit, "", path, mask=masks[name.lower()]))
    if dicom_files and masks and not {name.lower() for name in dicom_files} & set(masks):
        raise InputError(
            f"{annotations}: no mask fits a film: a mask has the name of its film, but there is "
            f"{next(iter(dicom_files.values())).name!r} in {images.name} and {next(iter(masks.values())).name!r} here"
        )
    unused_masks = set(masks) - {name.lower() for name in dicom_files}
    unused += [(masks[name].name, "a mask without a film in Images") for name in sorted(unused_masks)]
    return films, excluded, unused
