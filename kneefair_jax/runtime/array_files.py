"""Arrays of `.npz` files that somebody else may have written: no pickles, and a damaged file is one line."""

import zipfile
from collections.abc import Collection
from pathlib import Path

import numpy as np

from kneefair_jax.errors import InputError, told


def read_npz(path: Path, remedy: str, names: Collection[str] = ()) -> dict[str, np.ndarray]:
    """Return the arrays of a file by name.

    Args:
        path: of `numpy.savez`.
        remedy: what a person can do, the end of the message.
        names: of arrays that must be there.

    Raises:
        InputError: it is no regular file, is damaged, holds pickled objects, or lacks an array.
    """
    if path.exists() and not path.is_file():  # whoever opens a pipe waits for its other end
        raise InputError(f"{path} is not a file; {remedy}")
    try:
        with path.open("rb") as stream:  # np.load leaves a damaged file open
            if not zipfile.is_zipfile(stream):
                raise ValueError("no archive of arrays")
            stream.seek(0)
            with np.load(stream, allow_pickle=False) as file:
                arrays = dict(file)
    except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile, NotImplementedError) as error:
        raise InputError(f"{path} cannot be read ({told(error)}); {remedy}") from error
    if lacking := sorted(set(names) - arrays.keys()):
        raise InputError(f"{path} has no array {lacking[0]!r}; {remedy}")
    return arrays
