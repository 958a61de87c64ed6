"""The files below a folder, and an error for each part of it that cannot be listed."""

import os
from pathlib import Path
from typing import NamedTuple

from kneefair_jax.errors import InputError


class Listing(NamedTuple):
    """What is below a folder.

    Attributes:
        paths: of everything but folders, sorted: pipes, devices and broken links too, which their reader refuses.
        errors: one for each folder below that cannot be listed.
    """

    paths: list[Path]
    errors: list[InputError]


def below(folder: Path) -> Listing:
    """List a folder and those below it; links to folders are not followed, so that no loop is endless."""
    errors: list[InputError] = []

    def note(error: OSError) -> None:
        cause = (error.strerror or "unknown cause").lower()
        errors.append(InputError(f"{error.filename}: folder cannot be listed ({cause}); permit reading it"))

    paths = [Path(parent, name) for parent, _, names in os.walk(folder, onerror=note) for name in names]
    return Listing(sorted(paths), errors)
