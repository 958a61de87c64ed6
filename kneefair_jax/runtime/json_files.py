"""Read untrusted JSON files: regular files of a limited size, strict JSON, checked by a schema."""

import json
import os
import stat
from collections import Counter
from pathlib import Path
from typing import Any

from kneefair_jax.errors import InputError, describe
from kneefair_jax.runtime import atomic
from kneefair_jax.runtime.schema import Schema, abbreviate, find_fault

MIB = 2**20
MAX_DESCRIPTION_BYTES = MIB  # of files that could be written by hand
MAX_REPORT_BYTES = 16 * MIB  # of a report: a few kB a group and score


def read(path: Path, schema: Schema, remedy: str, *, max_bytes: int = MAX_DESCRIPTION_BYTES) -> Any:
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
            _content(path, max_bytes).decode(), object_pairs_hook=_object, parse_constant=_refuse_constant
        )
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or describe(error)
        raise InputError(f"{path} cannot be read ({reason}); {remedy}") from error
    except RecursionError:
        raise InputError(f"{path} cannot be read (nested too deeply); {remedy}") from None
    if fault := find_fault(value, schema):
        place = fault.place or "the value"
        state = fault.value or "missing"
        raise InputError(f"{path}: {place} is {state}, not {fault.expected}; {remedy}")
    return value


def _content(path: Path, max_bytes: int) -> bytes:
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
