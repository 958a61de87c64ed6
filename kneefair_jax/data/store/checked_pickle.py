"""Pickled values in a shared folder: loading a pickle runs code, so its digest is compared first."""

import hashlib
import pickle
from pathlib import Path
from typing import Any

from kneefair_jax.errors import InputError


def write(path: Path, value: Any) -> str:
    """Pickle a value into a file and return the SHA-256 of the file, in hex digits."""
    content = pickle.dumps(value)
    path.write_bytes(content)
    return hashlib.sha256(content).hexdigest()


def read(path: Path, sha256: str) -> Any:
    """Return the value that `write` pickled.

    Raises:
        InputError: the file has another digest; nothing in it has run.
    """
    content = path.read_bytes()
    if hashlib.sha256(content).hexdigest() != sha256:
        raise InputError(
            f"{path}: another process changed this file after it was written, so it is not loaded; let nobody else "
            "write to the folder of config.data.store, and start again"
        )
    return pickle.loads(content)
