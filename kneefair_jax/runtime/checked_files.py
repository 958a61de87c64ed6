"""Read untrusted JSON and `.npz` files: regular files of a limited size, checked before use, with one-line errors."""

import json
import math
import os
import stat
import zipfile
from collections import Counter
from collections.abc import Collection
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from kneefair_jax.errors import InputError, describe
from kneefair_jax.runtime import atomic, memory
from kneefair_jax.runtime.schema import Schema, abbreviate, find_fault

MIB = 2**20
MAX_DESCRIPTION_BYTES = MIB  # of files that could be written by hand
MAX_REPORT_BYTES = 16 * MIB  # of a report: a few kB a group and score
_HEADERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}


def read_json(path: Path, schema: Schema, remedy: str, *, max_bytes: int = MAX_DESCRIPTION_BYTES) -> Any:
    """Return the JSON value of a file, checked by a schema.

    Python's objects take up to twenty times the bytes of their JSON, so the size is checked first.

    Args:
        path: a regular file, or a link to one.
        schema: what the value must fit.
        remedy: what the user can do, the end of the message.
        max_bytes: the largest size of the file.

    Raises:
        InputError: the file is missing, is not a regular file (a pipe does not block), is larger, is not JSON in UTF-8
            without NaN and without repeated keys, is nested too deeply, or does not fit the schema.
    """
    try:
        value = json.loads(
            _read_bytes(path, max_bytes).decode(), object_pairs_hook=_object, parse_constant=_refuse_constant
        )
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or describe(error)
        raise InputError(f"{path} cannot be read ({reason}); {remedy}") from error
    except RecursionError:
        raise InputError(f"{path} cannot be read (nested too deeply); {remedy}") from None
    require_schema(value, schema, path, remedy)
    return value


def require_schema(value: Any, schema: Schema, path: Path, remedy: str) -> None:
    """Refuse the value of a file that does not fit a schema.

    Raises:
        InputError: with the file, the place of the value, and the remedy.
    """
    if fault := find_fault(value, schema):
        place = fault.place or "the value"
        state = fault.value or "missing"
        raise InputError(f"{path}: {place} is {state}, not {fault.expected}; {remedy}")


def _read_bytes(path: Path, max_bytes: int) -> bytes:
    # Without O_NONBLOCK, opening a pipe would block.
    with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode):
            raise ValueError(f"{atomic.file_kind(status.st_mode)}, not a file")
        if status.st_size <= max_bytes:
            content = file.read(max_bytes + 1)
            if len(content) <= max_bytes:
                return content
        raise ValueError(f"larger than {max_bytes / MIB:g} MiB")


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) < len(pairs):
        repeated = next(name for name, count in Counter(name for name, _ in pairs).items() if count > 1)
        raise ValueError(f"the key {abbreviate(repeated)} occurs twice")
    return value


def _refuse_constant(text: str) -> None:
    raise ValueError(f"{text} is not a JSON number")


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
