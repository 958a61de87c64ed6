"""A segmentation into one output folder: its options, and what determines the result of each file."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from kneefair_jax.errors import InputError
from kneefair_jax.predict import areas, resume, writers
from kneefair_jax.predict.areas import Areas, file_id
from kneefair_jax.predict.inputs import Input
from kneefair_jax.predict.predictor import Predictor
from kneefair_jax.runtime import preemption, progress

KNEES = ("auto", "one", "both")


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
    """

    predictor: Predictor
    settings: Settings
    out: Path
    table: Areas
    record: resume.Record
    network: str
    films: frozenset[str]

    def source_digest(self, item: Input | InputError) -> str | None:
        """Return the digest of what determines a file's result, except the batch size; None if there is no result."""
        if isinstance(item, InputError):
            return None
        try:
            group = self.settings.group_of(item)
        except InputError:
            return None
        settings = self.settings
        spacing = None if settings.spacing is None else settings.spacing.tolist()
        options = settings.format, settings.overlays, settings.knees, settings.anonymous, spacing
        return resume.source_digest(
            item.path, [self.network, group, item.name, areas.path_cell(item), options]
        )

    def result_digest(self, item: Input) -> str | None:
        """Return the digest of all results of a file; None where one is missing."""
        rows = self.table.rows(item.path)
        paths = [self.settings.mask_path(item), self.settings.view_path(item)]
        paths += [Path(row[areas.MASK]) for row in rows if row[areas.MASK].startswith("outlines/")]
        return (
            resume.result_digest(rows, [self.out / path for path in dict.fromkeys(paths)]) if rows else None
        )

    def is_finished(self, item: Input | InputError, source: str | None) -> bool:
        """Return whether an earlier run wrote the results that this run would write."""
        if isinstance(item, InputError) or (file := file_id(item.path)) not in self.record:
            return False
        return self.record.is_finished(file, source, self.result_digest(item))


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
