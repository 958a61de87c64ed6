"""The layout of the study that this project comes from (arXiv 2308.04356), with the OAI's tables.

`Images/<id>.dcm` is a bilateral film, `Annotations/<id>.nii.gz` its mask with labels 0-8 (scheme `knees`). The id is
the patient's, or holds it: the first seven digits that stand alone.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kneefair_jax.data.oai import cases, masks, selection
from kneefair_jax.data.oai.films import Film
from kneefair_jax.data.oai.tree import VISITS
from kneefair_jax.data.readers import suffixes
from kneefair_jax.data.source import LeftOut, Source
from kneefair_jax.errors import InputError

_ID = re.compile(r"(?<!\d)\d{7}(?!\d)")


def source(config: Mapping[str, Any], *, size: tuple[int, int]) -> Source:
    """The cases of the study's layout.

    Whoever laid the folders out chose the films, so one of which nothing says what series it is from is taken; one
    that says it is of another is not.

    Args:
        config: `root`, the folder that holds `Images` and `Annotations`; `visit`, a key of `oai.tree.VISITS`, at
            which the films were made; and what `oai.cases.build` reads.
        size: rows and columns of the working grid.

    Raises:
        InputError: a folder, a table, a column or every film cannot be used.
    """
    root = cases.existing(config["root"], "data.root")
    if config["visit"] not in VISITS:
        raise InputError(f"config.data.visit={config['visit']!r}: give one of {', '.join(VISITS)}")
    found, enrolled = cases.tables_of(config)
    paired, left_out, unused = _pairs(_folder(root, "Images"), _folder(root, "Annotations"), config["visit"])
    selection.require(paired, [*left_out, *unused], str(root))
    kept, refused = selection.select(paired, found, enrolled, config["quality"], must_be_named=False)
    selection.require(kept, [*left_out, *unused, *refused], str(root))
    return cases.build("siddiqui", kept, [*left_out, *refused], found, config, size, unused)


def _folder(root: Path, name: str) -> Path:
    found = next((path for path in sorted(root.iterdir()) if path.name.lower() == name.lower()), None)
    if found is None or not found.is_dir():
        raise InputError(
            f"{root} holds no folder {name}; set data.root to the one with Images and Annotations"
        )
    return found


def _pairs(images: Path, annotations: Path, visit: str) -> tuple[list[Film], list[LeftOut], list[LeftOut]]:
    """Return the films with a mask, the films left out, and the files of both folders that are no films."""
    labels = masks.by_name(annotations)
    files = [path for path in sorted(images.iterdir()) if not path.name.startswith(".")]
    pictures: dict[str, Path] = {}
    for path in (path for path in files if suffixes.suffix_of(path.name) in suffixes.DICOM):
        twin = next((other for other in pictures.values() if other.stem.lower() == path.stem.lower()), None)
        if twin:
            raise InputError(f"{path} and {twin.name} are films of the same name; keep one of them")
        pictures[path.stem] = path
    paired: list[Film] = []
    left_out: list[LeftOut] = []
    unused: list[LeftOut] = [(path.name, "no .dcm file") for path in files if path not in pictures.values()]
    for name, path in pictures.items():
        patient = _ID.search(name)
        if patient is None:
            left_out.append((name, "its name holds no ID of seven digits"))
        elif name.lower() not in labels:
            left_out.append((name, "no mask in Annotations"))
        else:
            paired.append(Film(name, patient[0], visit, "", path, mask=labels[name.lower()]))
    if pictures and labels and not {name.lower() for name in pictures} & set(labels):
        raise InputError(
            f"{annotations}: no mask fits a film: a mask has the name of its film, but there is "
            f"{next(iter(pictures.values())).name!r} in {images.name} and {next(iter(labels.values())).name!r} here"
        )
    spare = set(labels) - {name.lower() for name in pictures}
    unused += [(labels[name].name, "a mask without a film in Images") for name in sorted(spare)]
    return paired, left_out, unused
