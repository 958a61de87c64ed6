"""Cases from films of the OAI: a film with its eight structures, or each knee with its four."""

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from kneefair_jax import anatomy
from kneefair_jax.data import inspection, mask_files, metadata, readers
from kneefair_jax.data.oai import attributes, films, selection, tables
from kneefair_jax.data.oai.films import Film
from kneefair_jax.data.readers import orientation
from kneefair_jax.data.source import Example, Exclusion, Source
from kneefair_jax.errors import InputError

# Incremented when the same files give different arrays or notes.
VERSION = 6
ENROLLEES = "enrollees"


def source(config: Mapping[str, Any], *, size: tuple[int, int]) -> Source:
    """Return the cases of a download of the OAI with a folder of masks.

    Reads the tables, the headers of the films and the names of the masks; `Source.read` reads the pixels.

    Args:
        config: `root`, the folder that holds `00m`, ...; `masks`, the folder of masks; `visits`, keys of
            `selection.VISITS`; and what `build` reads.
        size: rows and columns of the working grid.

    Raises:
        InputError: a folder, a table, a column or every film is unusable.
    """
    root = require_folder(config["root"], "data.root")
    folder = require_folder(config["masks"], "data.masks")
    oai_tables, enrollees = read_tables(config)
    all_films, excluded, unused = selection.find_films(root, config["visits"])
    selection.require_films(all_films, [*excluded, *unused], str(root))
    usable, unusable = selection.select(
        all_films, oai_tables, enrollees, config["quality"], must_be_named=True
    )
    excluded += unusable
    selection.require_films(usable, [*excluded, *unused], str(root))
    usable, without_mask, unused_masks = selection.pair_masks(usable, folder)
    return build(
        "oai", usable, [*excluded, *without_mask], oai_tables, config, size, unused=[*unused, *unused_masks]
    )


def build(
    kind: str,
    usable: Sequence[Film],
    excluded: Sequence[Exclusion],
    oai_tables: Mapping[str, tables.Table],
    config: Mapping[str, Any],
    size: tuple[int, int],
    unused: Sequence[Exclusion],
) -> Source:
    """Return the cases of films with masks.

    Args:
        kind: of the source, for its settings.
        usable: films with mask and spacing.
        excluded: all other films.
        oai_tables: by lower-case stem.
        config: `knees`, "film" for a case of eight structures (scheme `knees`) or "split" for two of four
            (scheme `knee`); `orientation`, of `readers.orientation.FLAGS`, that of masks on their films where the
            headers do not settle it; `mirror`, whether split left knees are mirrored; `attributes`; `bins`, attribute
            -> ascending edges.
        size: rows and columns of the working grid.
        unused: files that are no films.

    Raises:
        InputError: a setting is unknown, or an attribute is unavailable.
    """
    split, mirror = _split_and_mirror(config)
    flag = orientation.checked_flag(orientation.Flag(config.get("orientation", "")))
    sides = films.SIDES if split else ("",)
    options = metadata.Options(allow_similar=config.get("allow_similar_ids", False))
    cases, notes = attributes.add(
        _case_rows(usable, sides), oai_tables, tuple(config["attributes"]), config["bins"], options
    )
    structures = anatomy.SCHEMES["knee" if split else "knees"]
    mask_files.check_palettes([film.mask for film in usable if film.mask], films.VALUES)
    settings = {
        "kind": kind,
        "version": VERSION,
        "grid": [*size, 1],
        "knees": config["knees"],
        "mirror": mirror,
        "orientation": flag.value,
        "files": [[film.name, *_stamp(film.path), *_stamp(film.mask), *film.spacing] for film in usable],
    }
    return Source(
        cases,
        structures,
        settings,
        read=partial(_read, tuple(usable), sides, (size[0], size[1]), mirror, flag),
        portable=True,
        excluded=tuple(excluded),
        unused=tuple(unused),
        read_native=partial(_read, tuple(usable), sides, None, mirror, flag),
        notes=tuple(notes),
        files=partial(_case_files, tuple(usable), len(sides)),
    )


def _split_and_mirror(config: Mapping[str, Any]) -> tuple[bool, bool]:
    """Return whether each knee is a case of its own, and whether left knees are mirrored."""
    if config["knees"] not in ("film", "split"):
        raise InputError(f"config.data.knees={config['knees']!r}: give film or split")
    split, mirror = config["knees"] == "split", bool(config["mirror"])
    if mirror and not split:
        raise InputError(
            "config.data.mirror is for split knees: set data.knees='split', or data.mirror=False"
        )
    return split, mirror


def _case_rows(usable: Sequence[Film], sides: Sequence[str]) -> pd.DataFrame:
    """Return a row per film and side; a side of "" is that of a film with both knees."""
    rows = [
        {
            "case_id": f"{film.name}_{side}" if side else film.name,
            "patient_id": film.patient,
            "visit": film.visit,
            "barcode": film.barcode,
            "side": side,
        }
        for film in usable
        for side in sides
    ]
    return pd.DataFrame(rows)


def require_folder(text: str, field: str) -> Path:
    """Return the folder that a config field names.

    Raises:
        InputError: the field is empty, or the folder does not exist.
    """
    if not text:
        raise InputError(f"config.{field} is empty: give the folder with --config.{field}=DIR")
    if not Path(text).is_dir():
        raise InputError(f"config.{field}={text}: no such folder")
    return Path(text)


def read_tables(config: Mapping[str, Any]) -> tuple[dict[str, tables.Table], set[str]]:
    """Return the tables in the folder `tables` of the config, or in `root` if that is "", and the enrollees' IDs.

    Raises:
        InputError: the folder or the table of enrollees does not exist.
    """
    field = "data.tables" if config["tables"] else "data.root"
    folder = require_folder(config["tables"] or config["root"], field)
    oai_tables = tables.find(folder)
    if ENROLLEES not in oai_tables:
        names = ", ".join(table.path.name for table in oai_tables.values()) or "none"
        raise InputError(
            f"{folder}: no table of enrollees (Enrollees.txt or Enrollees.csv with a column ID, in any case, in the "
            f"folder or below); set data.tables to the folder of the tables; tables found: {names}"
        )
    return oai_tables, tables.patients(oai_tables[ENROLLEES])


def _stamp(path: Path | None) -> list[Any]:
    """Return name, bytes and modification time: cheap, and enough to detect a new file."""
    if path is None:
        raise ValueError("a film without a mask is not a case")
    stat = path.stat()
    return [path.name, stat.st_size, stat.st_mtime_ns]


def _case_files(usable: Sequence[Film], knees_per_film: int, row: int) -> tuple[Path, ...]:
    film = usable[row // knees_per_film]
    return (film.path, film.mask) if film.mask else (film.path,)


def _read(
    usable: Sequence[Film],
    sides: Sequence[str],
    size: tuple[int, int] | None,
    mirror: bool,
    flag: orientation.Flag,
    rows: Sequence[int],
) -> Iterator[Example | InputError]:
    # The knees of a film are consecutive rows, so it is read once for both.
    for number, film_rows in groupby(rows, key=lambda row: int(row) // len(sides)):
        film = usable[number]
        try:
            arrays = films.read(film, flag)
        except InputError as error:
            yield from [error for _ in film_rows]
            continue
        for row in film_rows:
            yield _case(film, arrays, sides[int(row) % len(sides)], size, mirror)


def _case(
    film: Film, arrays: films.Arrays, side: str, size: tuple[int, int] | None, mirror: bool
) -> Example | InputError:
    image, label, spacing = arrays.image, arrays.label, arrays.spacing
    classes = len(films.STRUCTURES)
    if side:
        classes = len(anatomy.SCHEMES["knee"])
        if not films.of_side(label, side).any():
            return InputError(
                f"{film.mask}: the mask has no label of the {side} knee; draw it, or remove the mask"
            )
        image, label = films.cut_knee(image, label, side, mirror=mirror)
    record = inspection.inspect_mask(label, arrays.spacing_kind, arrays.notes, values=arrays.label)
    if size is None:
        return Example(image, label, spacing, record)
    scale = np.array(label.shape, np.float32) / np.array(size, np.float32)
    return Example(
        readers.resize_image(image, size),
        readers.resize_label(label, size, classes + 1),
        spacing * scale,
        record,
    )
