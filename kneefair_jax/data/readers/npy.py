"""NPY: one array of numbers; the file may hold no Python objects."""

from pathlib import Path

import numpy as np

from kneefair_jax.data.readers import limits
from kneefair_jax.data.readers.decoded import Decoded
from kneefair_jax.errors import InputError

_HEADERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}


def read(path: Path, mask: bool) -> Decoded:
    """Decode a file; images and masks alike. It is not mapped: a mapped file that is cut off ends the process.

    Raises:
        InputError: it holds Python objects, no image, or too large a one.
        ValueError: it is no NPY file, or is damaged.
    """
    del mask
    with limits.open_regular(path) as file:
        version = np.lib.format.read_magic(file)
        if version not in _HEADERS:  # of structured arrays alone
            raise ValueError(f"NPY version {version}")
        shape, _, dtype = _HEADERS[version](file)
        if dtype.hasobject:
            raise InputError(
                f"{path}: unreadable file (Python objects, never loaded); save an array of numbers"
            )
        if len(shape) not in (2, 3) or shape[2:] not in ((), (1,), (3,)):
            raise InputError(
                f"{path}: holds an array of shape {shape}; give one image, gray [row, column] or color [row, column, 3]"
            )
        limits.require_size(shape[0], shape[1], dtype.itemsize * (shape[2] if shape[2:] else 1), path)
        file.seek(0)
        return Decoded(np.load(file, allow_pickle=False))
