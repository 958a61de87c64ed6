"""Cases from films of the OAI: a film with its eight structures, or each knee with its four."""

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from kneefair_jax import anatomy
from kneefair_jax.data import inspection, layouts, mask_files, metadata, readers
from kneefair_jax.data.oai import attributes, films, knees, masks, selection, tables, tree
from kneefair_jax.data.oai.films import Film
from kneefair_jax.data.source import Example, LeftOut, Source
from kneefair_jax.errors import InputError

# Bumped when the same files give other arrays.
VERSION = 4
ENROLLEES = "enrollees"


def source(config: Mapping[str, Any], *, size: tuple[int, int]) -> Source:
    """The cases of a download of the OAI with a folder of masks.

    Reads the tables, the headers of the films and the names of the masks; pixels are left to `Source.read`.

    Args:
        config: `root`, the folder that holds `00m`, ...; `masks`, the folder of masks; `visits`, keys of
            `tree.VISITS`; and what `build` reads.
        size: rows and columns of the working grid.

    Raises:
        InputError: a folder, a table, a column or every film cannot be used.
    """
    root = existing(config["root"], "data.root")
    folder = existing(config["masks"], "data.masks")
    found, enrolled = tables_of(config)
    listed, left_out, others = tree.films(root, config["visits"])
    selection.require(listed, [*left_out, *others], str(root))
    kept, refused = selection.select(listed, found, enrolled, config["quality"], must_be_named=True)
    selection.require(kept, [*left_out, *others, *refused], str(root))
    paired, unpaired, spare = masks.pair(kept, folder)
    return build(
        "oai", paired, [*left_out, *refused, *unpaired], found, config, size, unused=[*others, *spare]
    )


def build(
    kind: str,
    usable: Sequence[Film],
    left_out: Sequence[LeftOut],
    found: Mapping[str, tables.Table],
    config: Mapping[str, Any],
    size: tuple[int, int],
    unused: Sequence[LeftOut],
) -> Source:
    """The cases of films with masks.

    Args:
        kind: of the source, for its settings.
        usable: films with mask and spacing.
        left_out: all other films.
        found: the tables.
        config: `knees`, "film" for a case of eight structures (scheme `knees`) or "split" for two of four
            (scheme `knee`); `orientation`, how a mask lies on its film where their headers leave it open (`layouts`);
            `mirror`, whether split left knees are mirrored; `attributes`; `bins`, attribute ->
            ascending edges.
        size: rows and columns of the working grid.
        unused: files that are no films.

    Raises:
        InputError: a setting is unknown, or an attribute cannot be had.
    """
    if config["knees"] not in ("film", "split"):
        raise InputError(f"config.data.knees={config['knees']!r}: give film or split")
    flag = layouts.checked(layouts.Flag(config.get("orientation", "")))
    mirror = bool(config["mirror"])
    split = config["knees"] == "split"
    if mirror and not split:
        raise InputError(
            "config.data.mirror is for split knees: set data.knees='split', or data.mirror=False"
        )
    sides = knees.SIDES if split else ("",)
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
    options = metadata.Options(allow_similar=config.get("allow_similar_ids", False))
    cases, notes = attributes.add(
        pd.DataFrame(rows), found, tuple(config["attributes"]), config["bins"], options
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
    read = partial(_read, tuple(usable), sides, (size[0], size[1]), mirror, flag)
    whole = partial(_read, tuple(usable), sides, None, mirror, flag)
    return Source(
        cases,
        structures,
        settings,
        read,
        portable=True,
        left_out=tuple(left_out),
        unused=tuple(unused),
        whole=whole,
        notes=tuple(notes),
        files=partial(_files_of, tuple(usable), len(sides)),
    )


def existing(text: str, field: str) -> Path:
    """A folder that the config names.

    Raises:
        InputError: it names none, or there is none.
    """
    if not text:
        raise InputError(f"config.{field} is empty: give the folder with --config.{field}=DIR")
    if not Path(text).is_dir():
        raise InputError(f"config.{field}={text}: no such folder")
    return Path(text)


def tables_of(config: Mapping[str, Any]) -> tuple[dict[str, tables.Table], set[str]]:
    """The tables in `tables`, or in `root` where that is "", and the patients enrolled.

    Raises:
        InputError: there is no such folder or no table of the enrolled.
    """
    field = "data.tables" if config["tables"] else "data.root"
    folder = existing(config["tables"] or config["root"], field)
    found = tables.find(folder)
    if ENROLLEES not in found:
        there = ", ".join(table.path.name for table in found.values()) or "none"
        raise InputError(
            f"{folder}: no table of the enrolled: looked for Enrollees.txt or Enrollees.csv with a column ID, in any "
            f"case and anywhere below; set data.tables to the folder of the tables; tables found: {there}"
        )
    return found, tables.patients(found[ENROLLEES])


def _stamp(path: Path | None) -> list[Any]:
    """Name, bytes and time of change: cheap, and enough to notice a new file."""
    if path is None:
        raise ValueError("a film without its mask is no case")
    stat = path.stat()
    return [path.name, stat.st_size, stat.st_mtime_ns]


def _files_of(usable: Sequence[Film], knees_of_film: int, row: int) -> tuple[Path, ...]:
    film = usable[row // knees_of_film]
    return (film.path, film.mask) if film.mask else (film.path,)


def _read(
    usable: Sequence[Film],
    sides: Sequence[str],
    size: tuple[int, int] | None,
    mirror: bool,
    flag: layouts.Flag,
    rows: Sequence[int],
) -> Iterator[Example | InputError]:
    # The knees of a film follow each other, so it is read once for both.
    for number, run in groupby(rows, key=lambda row: int(row) // len(sides)):
        film = usable[number]
        try:
            arrays = films.read(film, flag)
        except InputError as error:
            yield from [error for _ in run]
            continue
        for row in run:
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
                f"{film.mask}: nothing is drawn of the {side} knee; draw it, or remove the mask"
            )
        image, label = knees.cut(image, label, side, mirror=mirror)
    if size is None:
        return Example(image, label, spacing)
    scale = np.array(label.shape, np.float32) / np.array(size, np.float32)
    return Example(
        readers.resize_image(image, size),
        readers.resize_label(label, size, classes + 1),
        spacing * scale,
        inspection.of_mask(label, arrays.spacing_kind, arrays.notes, values=arrays.label),
    )
