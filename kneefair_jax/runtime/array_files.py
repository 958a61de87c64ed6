"""Read untrusted `.npz` files: no pickles, a limited size, and a one-line error for damaged files."""

import math
import zipfile
from collections.abc import Collection
from pathlib import Path
from typing import BinaryIO

import numpy as np

from kneefair_jax.errors import InputError, describe
from kneefair_jax.runtime import memory

_HEADERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}


def read_npz(path: Path, remedy: str, names: Collection[str] = ()) -> dict[str, np.ndarray]:
    """Return the arrays of a file by name.

    Args:
        path: a file of `numpy.savez`.
        remedy: what the user can do, the end of the message.
        names: names of required arrays.

    Raises:
        InputError: the file is not regular, is damaged, contains pickled objects, expands to more than half of the
            memory, or lacks an array.
    """
    if path.exists() and not path.is_file():  # opening a pipe would block
        raise InputError(f"{path} is not a file; {remedy}")
    try:
        with path.open("rb") as stream:  # np.load leaves a damaged file open
            if not zipfile.is_zipfile(stream):
                raise ValueError("no archive of arrays")
            _require_size(stream)
            stream.seek(0)
            with np.load(stream, allow_pickle=False) as file:
                arrays = dict(file)
    except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile, NotImplementedError) as error:
        raise InputError(f"{path} cannot be read ({describe(error)}); {remedy}") from error
    if missing := sorted(set(names) - arrays.keys()):
        raise InputError(f"{path} has no array {missing[0]!r}; {remedy}")
    return arrays


def _require_size(stream: BinaryIO) -> None:
    """Require that the arrays of an archive fit in memory, before one is decompressed.

    `zipfile` reads at most the size that the archive states, but NumPy allocates the size in the array's header.

    Raises:
        ValueError: the arrays take more than half of the memory, or a header states more than its member contains.
    """
    with zipfile.ZipFile(stream) as archive:
        members = archive.infolist()
        # Masks of a large cohort at full resolution take gigabytes.
        if (total := sum(member.file_size for member in members)) > (limit := memory.host_bytes() // 2):
            raise ValueError(f"expands to {total >> 20} MiB, more than {limit >> 20} MiB, half of the memory")
        for member in members:
            with archive.open(member) as file:
                version = np.lib.format.read_magic(file)
                if version not in _HEADERS:
                    raise ValueError(f"NPY version {version} in {member.filename}")
                shape, _, dtype = _HEADERS[version](file)
            if math.prod(shape) * dtype.itemsize > member.file_size:
                raise ValueError(f"the array {member.filename} is cut off")
