"""The results of one film in an output folder, of whatever options: outdated ones are deleted."""

import os
from collections.abc import Collection, Iterator
from pathlib import Path

from kneefair_jax import anatomy
from kneefair_jax.predict import writers
from kneefair_jax.predict.areas import Areas, file_id
from kneefair_jax.predict.inputs import Input
from kneefair_jax.predict.plausibility import SIDES
from kneefair_jax.predict.resume import Record
from kneefair_jax.runtime import io_errors

_BONES = (*anatomy.UNIONS, *(f"{side} {bone}" for side in SIDES for bone in anatomy.UNIONS))


def paths(name: str) -> Iterator[Path]:
    """Yield every path in the output folder that `run` writes, with some options, of a film of this name.

    Args:
        name: of an `Input`.
    """
    yield Path("overlays", f"{name}.png")
    for ending, write in writers.FORMATS.values():
        yield Path("masks", f"{name}{ending}")
        outlines = Path("outlines", f"{name}{ending}")
        if write is writers.dicom_seg:
            yield outlines
        else:
            yield from (writers.bone_path(outlines, bone) for bone in _BONES)


def delete(
    out: Path, item: Input, table: Areas, *, films: Collection[str], current: Collection[Path] = ()
) -> None:
    """Delete the files of a film in the output folder, but the current ones and those that belong to another film.

    Args:
        out: the output folder, whose lock is held.
        item: the film.
        table: says which film a file belongs to.
        films: the paths of all films, without symbolic links: someone may segment a file of the output folder.
        current: paths below `out` that are kept.

    Raises:
        OSError: a file cannot be deleted.
    """
    if not table.may_write(item.path, f"masks/{item.name}.png"):
        return
    for path in paths(item.name):
        file = out / path
        is_outdated = os.path.isfile(file) and file not in current and os.path.realpath(file) not in films
        if is_outdated and table.may_write(item.path, path.as_posix()):
            with io_errors.add_path(file):
                file.unlink(missing_ok=True)


def discard(out: Path, item: Input, table: Areas, record: Record, *, films: Collection[str]) -> None:
    """Delete all results of a film that cannot be segmented now: they are of another network or of earlier bytes.

    Files that no row names are left alone.

    Args:
        out: the output folder, whose lock is held.
        item: the film.
        table: loses the film's rows.
        record: loses the film.
        films: as for `delete`.

    Raises:
        OSError: a file cannot be deleted.
    """
    if table.rows(item.path):
        delete(out, item, table, films=films)
        table.discard(item.path)
    record.discard(file_id(item.path))
