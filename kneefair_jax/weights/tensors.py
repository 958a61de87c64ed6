"""Safetensors from an unknown source, whose header is checked before any tensor is in memory."""

import stat
from collections.abc import Collection
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open

from kneefair_jax.errors import InputError, describe
from kneefair_jax.runtime import atomic

MOST_BYTES = 2**29  # of a file: 128 million weights as float32, five times those of the largest network
_TYPES = ("F16", "BF16", "F32", "F64")


def shapes(path: Path, remedy: str) -> dict[str, tuple[int, ...]]:
    """Return the shape of each tensor of a file, by name, without reading a tensor.

    Args:
        path: a regular file, or a link to one.
        remedy: the end of the error message.

    Raises:
        InputError: the file is missing, is no regular file, is larger than `MOST_BYTES`, or holds a tensor that is not
            floating-point.
    """
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise InputError(f"{path} is {atomic.file_kind(status.st_mode)}, not a file; {remedy}")
        if status.st_size > MOST_BYTES:
            raise InputError(f"{path} is larger than {MOST_BYTES // 2**20} MiB; {remedy}")
        with safe_open(path, framework="numpy") as file:
            slices = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118  # not a dict
            types = {name: tensor.get_dtype() for name, tensor in slices.items()}
            tensor_shapes = {name: tuple(tensor.get_shape()) for name, tensor in slices.items()}
    except (OSError, SafetensorError) as error:
        raise InputError(f"{path} cannot be read ({describe(error)}); {remedy}") from error
    if unusable := [name for name, kind in types.items() if kind not in _TYPES and tensor_shapes[name]]:
        raise InputError(
            f"{path}: the tensor {unusable[0]} is of the type {types[unusable[0]]}, not {', '.join(_TYPES)}; {remedy}"
        )
    return tensor_shapes


def read(path: Path, names: Collection[str], remedy: str) -> dict[str, np.ndarray]:
    """Return tensors as f32 arrays, by name.

    Args:
        path: a file that `shapes` accepts.
        names: the tensors to read.
        remedy: the end of the error message.

    Raises:
        InputError: a tensor cannot be read.
    """
    try:
        with safe_open(path, framework="numpy") as file:
            return {name: np.asarray(file.get_tensor(name), np.float32) for name in names}
    except (OSError, SafetensorError) as error:
        raise InputError(f"{path} cannot be read ({describe(error)}); {remedy}") from error
