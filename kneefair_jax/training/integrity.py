"""Whether the files of a checkpoint are those that were written: SHA-256 of each, as `sha256sum` writes it.

Orbax restores a flipped bit in the data of an array without a word. The sums are written into the folder before it gets
its final name, so a checkpoint that has this name has them; `sha256sum -c SHA256SUMS` in it checks it too.
"""

import hashlib
import os
from pathlib import Path

SUMS = "SHA256SUMS"


def seal(directory: Path) -> None:
    """Writes `SHA256SUMS` of every file in the folders of a folder; what lies in it directly, orbax still changes."""
    paths = sorted(path for path in directory.rglob("*") if path.is_file() and path.parent != directory)
    with (directory / SUMS).open("w") as file:
        file.writelines(f"{_sha256(path)}  {path.relative_to(directory)}\n" for path in paths)
        file.write(f"# {len(paths)} files\n")  # so that a sum that is missing is missed
        file.flush()
        os.fsync(file.fileno())


def damage(directory: Path, part: str = "") -> str | None:
    """Which file is not what was written.

    Args:
        directory: a checkpoint.
        part: look at this folder in it alone; what is absent of it is no damage: whoever is killed at deleting a
            checkpoint that was not wanted leaves some of its files.

    Returns:
        What is wrong with the first such file; None where nothing is, or where there are no sums, as in checkpoints of
        earlier versions.
    """
    if not (directory / SUMS).exists():
        return None
    *lines, end = (directory / SUMS).read_text(errors="replace").splitlines() or [""]
    if end != f"# {len(lines)} files":
        return f"{directory / SUMS} is not what was written"
    for line in lines:
        sha256, _, name = line.partition("  ")
        if not name.startswith(part):
            continue
        path = directory / name
        if not path.is_file():
            if not part:
                return f"{path} is missing"
        elif _sha256(path) != sha256:
            return f"{path} is not what was written"
    return None


def set_aside(directory: Path) -> Path:
    """Renames a damaged checkpoint, so that its step can be made again; returns where it is."""
    number = 0
    while (aside := directory.with_name(f"damaged_{directory.name}_{number}")).exists():
        number += 1
    return directory.rename(aside)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
