"""A segmentation into one output folder: its options, and the record of finished files.

After an interruption, the same command skips finished files. A file is finished if its source (the code, the network,
the options, the bytes of the file) is that of an earlier run, and if its result (rows of `areas.csv`, mask, overlay)
has the bytes that were written then. Every other file is segmented again: a missing, outdated or damaged record costs
time and never leaves a stale result.
"""

import functools
import hashlib
import importlib.metadata
import json
import os
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

import kneefair_jax
from kneefair_jax.data.readers import limits
from kneefair_jax.data.source import files_sha256
from kneefair_jax.errors import InputError
from kneefair_jax.predict import areas, writers
from kneefair_jax.predict.areas import Areas, LinesByFile, file_id
from kneefair_jax.predict.films import Input
from kneefair_jax.predict.measuring import Measurements
from kneefair_jax.predict.predictor import Predictor
from kneefair_jax.runtime import atomic, preemption, progress

KNEES = ("auto", "one", "both")
RECORD = ".resume.csv"
_COLUMNS = 3
_PACKAGE = Path(kneefair_jax.__file__).parent
_LIBRARIES = ("jax", "jaxlib", "numpy", "pillow")  # which compute, read and resize


class Settings(NamedTuple):
    """Options of a segmentation.

    Attributes:
        format: of masks, a key of `writers.FORMATS`.
        overlays: whether overlays are drawn.
        knees: how many knees a film shows; `auto` reads its DICOM header.
        group: of all patients, for group-specific networks.
        batch: files per batch, at most `MOST_READ`.
        groups: case id (a file's name without ending) -> its group; None where all files are of `group`.
        anonymous: whether DICOM-SEG is written without the patient's identity.
        spacing: f32[2], mm per pixel down and across of films whose files state none; None leaves it unknown.
        overwrite: whether results of the same files by another network or other options may be replaced.
        measure: whether knees are measured, into a table and onto the overlays.
        magnification: of the bones on the detector, where a film's spacing is the detector's; NaN if it is not stated.
    """

    format: str = "png"
    overlays: bool = True
    knees: str = "auto"
    group: str | None = None
    batch: int = 8
    groups: Mapping[str, str] | None = None
    anonymous: bool = False
    spacing: np.ndarray | None = None
    overwrite: bool = True
    measure: bool = False
    magnification: float = float("nan")

    def mask_path(self, item: Input) -> Path:
        """Return the path of a file's mask in the output folder."""
        return Path("masks", f"{item.name}{writers.FORMATS[self.format][0]}")

    def view_path(self, item: Input) -> Path:
        """Return the path, in the output folder, of the picture to look at: the overlay, or else the mask."""
        return Path("overlays", f"{item.name}.png") if self.overlays else self.mask_path(item)

    def group_of(self, item: Input) -> str | None:
        """Return the group of a file's patient.

        Raises:
            InputError: `groups` lacks the file.
        """
        if self.groups is None:
            return self.group
        for case in (item.name, Path(item.name).name):
            if case in self.groups:
                return self.groups[case]
        raise InputError(
            f"{item.path}: --metadata has no case {item.name!r}, so its group is unknown; add a row"
        )


class Record(LinesByFile):
    """The digests of finished files by `file_id`, in a hidden file of the output folder."""

    def __init__(self, folder: Path):
        super().__init__(folder / RECORD, _read(folder / RECORD))

    def __contains__(self, file: str) -> bool:
        return file in self._lines

    def is_finished(self, file: str, source: str | None, result: str | None) -> bool:
        """Return whether a file's result is that of its source; False where one of them is unknown."""
        return None not in (source, result) and self._lines.get(file) == _line(file, source, result)

    def is_of_source(self, file: str, source: str) -> bool:
        """Return whether a file's recorded result comes from this source."""
        return self._lines.get(file, "").startswith(f"{file},{source},")

    def add(self, file: str, source: str | None, result: str | None) -> None:
        """Record a finished file, unless its source or result cannot be read any more."""
        if source is not None and result is not None:
            self.append(file, _line(file, source, result))

    def discard(self, file: str) -> None:
        """Forget a file, if it is recorded; its line leaves the record when that is closed."""
        self._lines.pop(file, None)


def _line(file: str, source: str | None, result: str | None) -> str:
    return f"{file},{source},{result}\n"


def _read(path: Path) -> dict[str, str]:
    """Return the lines by `file_id`; lines that were cut off are dropped, and an unreadable file counts as empty."""
    try:
        *lines, _ = limits.read_bytes(path).decode(errors="replace").split("\n")  # the last line has no end
    except InputError:
        return {}
    rows = (line.split(",") for line in lines)
    return {row[0]: _line(*row) for row in rows if len(row) == _COLUMNS}


class Session(NamedTuple):
    """A run into one output folder.

    Attributes:
        predictor: segments.
        settings: the options.
        out: the output folder; its lock is held.
        table: `areas.csv`.
        record: the finished files.
        network: digest of the predictor.
        films: real paths of all films, which are never deleted.
        measurements: `measurements.csv`; None if there are neither earlier measurements nor new ones.
    """

    predictor: Predictor
    settings: Settings
    out: Path
    table: Areas
    record: Record
    network: str
    films: frozenset[str]
    measurements: Measurements | None = None

    def source_digest(self, item: Input | InputError) -> str | None:
        """Return the SHA-256 of what determines a file's result, except the batch size; None if there is no result."""
        if isinstance(item, InputError):
            return None
        settings = self.settings
        try:
            group, content = settings.group_of(item), files_sha256([item.path])
        except InputError:  # the reader reports it
            return None
        spacing = None if settings.spacing is None else settings.spacing.tolist()
        measuring = (settings.measure, str(settings.magnification))
        options = settings.format, settings.overlays, settings.knees, settings.anonymous, spacing, measuring
        path = areas.path_cell(item)
        text = json.dumps([code_digest(), content, self.network, group, item.name, path, options])
        return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()

    def result_digest(self, item: Input) -> str | None:
        """Return the SHA-256 of all results of a file; None where one is missing or cannot be read."""
        if not (rows := self.table.rows(item.path)):
            return None
        paths = [self.settings.mask_path(item), self.settings.view_path(item)]
        paths += [Path(row[areas.MASK]) for row in rows if row[areas.MASK].startswith("outlines/")]
        lines = "" if self.measurements is None else self.measurements.lines(item.path)
        text = hashlib.sha256(json.dumps([rows, lines]).encode()).hexdigest()
        try:
            content = files_sha256([self.out / path for path in dict.fromkeys(paths)])
        except InputError:
            return None
        return hashlib.sha256(f"{text}{content}".encode()).hexdigest()

    def is_finished(self, item: Input | InputError, source: str | None) -> bool:
        """Return whether an earlier run wrote the results that this run would write."""
        if isinstance(item, InputError) or (file := file_id(item.path)) not in self.record:
            return False
        return self.record.is_finished(file, source, self.result_digest(item))

    def delete_outdated(self, item: Input, current: Collection[Path] = ()) -> None:
        """Delete the files of a film in the output folder, but the current ones and those that belong to another film.

        Args:
            item: the film.
            current: paths below `out` that are kept.

        Raises:
            OSError: a file cannot be deleted.
        """
        if not self.table.may_write(item.path, f"masks/{item.name}.png"):
            return
        for path in writers.result_paths(item.name):
            file = self.out / path
            # Someone may segment a file of the output folder.
            is_film = os.path.realpath(file) in self.films
            is_outdated = os.path.isfile(file) and file not in current and not is_film
            if is_outdated and self.table.may_write(item.path, path.as_posix()):
                with atomic.add_path(file):
                    file.unlink(missing_ok=True)

    def discard(self, item: Input) -> None:
        """Delete all results of a film that cannot be segmented now: they are of another network or of earlier bytes.

        Files that no row names are left alone.

        Raises:
            OSError: a file cannot be deleted.
        """
        if self.table.rows(item.path):
            self.delete_outdated(item)
            self.table.discard(item.path)
        if self.measurements is not None:
            self.measurements.discard(item.path)
        self.record.discard(file_id(item.path))


def require_same_sources(session: Session, items: Sequence[Input | InputError]) -> None:
    """Refuse files whose recorded results come from another network, other options or other pixels.

    Raises:
        InputError: with their number, the first of them and the remedy.
    """
    recorded = [item for item in items if isinstance(item, Input) and file_id(item.path) in session.record]
    with progress.Progress("comparing files with earlier results", len(recorded), "files") as comparison:
        outdated = []
        for item in recorded:
            source = session.source_digest(item)
            if source is not None and not session.record.is_of_source(file_id(item.path), source):
                outdated.append(item)
            preemption.check()
            comparison.advance()
    if outdated:
        raise InputError(
            f"--out {session.out} holds results of {len(outdated)} of these files ({outdated[0].path}, ...) by another "
            "network, other options, another version or from other pixels; add --overwrite to replace them, or give "
            "another --out"
        )


@functools.cache
def code_digest(package: Path = _PACKAGE) -> str:
    """Return the SHA-256 of a package's Python sources and of the versions of libraries, in hex digits.

    The version of the package alone would miss a change between two releases. The sources are read once a process.

    Args:
        package: the folder of the package.

    Raises:
        InputError: a source cannot be read.
    """
    sources = sorted(package.rglob("*.py"))
    names = [path.relative_to(package).as_posix() for path in sources]
    versions = [importlib.metadata.version(name) for name in _LIBRARIES]
    text = json.dumps([names, files_sha256(sources), versions])
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
