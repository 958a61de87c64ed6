"""Measure segmented knees: `measurements.csv` of an output folder, whose rows of several runs are merged by file."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from kneefair_jax import measurements
from kneefair_jax.data.readers import dicom_header
from kneefair_jax.measurements import BONES, Measurement, spacing
from kneefair_jax.measurements.measure import TABLE_COLUMNS, table_rows
from kneefair_jax.measurements.spacing import BoneSpacing
from kneefair_jax.predict import areas
from kneefair_jax.predict.areas import LinesByFile, file_id
from kneefair_jax.predict.films import Film, Input
from kneefair_jax.predict.prediction import Prediction
from kneefair_jax.safe_text import spreadsheet_cell

FILE = "measurements.csv"
COLUMNS = ("file", "file_id", *TABLE_COLUMNS)
MIN_FIBULA_DICE = 0.5  # predicted; networks may see a fibula that the film does not show
_KNEE, _MEASUREMENT = map(COLUMNS.index, ("knee", "measurement"))


class FilmMeasurements(NamedTuple):
    """The measurements of a film.

    Attributes:
        knees: `right` and `left`, or "" for one knee, -> its measurements.
        pixel: the spacing in the plane of the bones.
    """

    knees: Mapping[str, Mapping[str, Measurement]]
    pixel: BoneSpacing


class Measurements(LinesByFile):
    """The rows of `measurements.csv` by `file_id`.

    Raises:
        InputError: the folder holds a `measurements.csv` with other columns.
    """

    def __init__(self, folder: Path):
        tables = areas.read_rows(folder / FILE, COLUMNS, _begins_file)
        lines = {file: areas.lines_of(rows) for file, rows in tables.items()}
        super().__init__(folder / FILE, lines, areas.lines_of([COLUMNS]))

    def __exit__(self, *exception: object) -> None:
        super().__exit__(*exception)
        if not self._lines:
            self._path.unlink(missing_ok=True)

    def add(self, item: Input, film: FilmMeasurements) -> None:
        """Add the rows of a film, in place of its earlier ones."""
        start = (areas.path_cell(item), file_id(item.path))
        rows = [
            [spreadsheet_cell(cell) for cell in (*start, *row)]
            for knee, results in film.knees.items()
            for row in table_rows(knee, results, film.pixel.kind)
        ]
        if rows:
            self.append(file_id(item.path), areas.lines_of(rows))
        else:
            self.discard(item.path)

    def discard(self, path: Path) -> None:
        """Delete the rows of a file, if there are any; they leave the table when it is closed."""
        self._lines.pop(file_id(path), None)

    def lines(self, path: Path) -> str:
        """Return the lines of a file; "" for a file that the table lacks."""
        return self._lines.get(file_id(path), "")


def is_table(folder: Path) -> bool:
    """Return whether a folder holds a `measurements.csv` of `predict`, and not one of another command."""
    path = folder / FILE
    if not path.is_file():
        return False
    with path.open(encoding="utf-8", errors="replace") as file:
        return file.readline().rstrip("\r\n") == ",".join(COLUMNS)


def measure_film(film: Film, prediction: Prediction, magnification: float) -> FilmMeasurements:
    """Measure the knees of a film from their whole bones, or from their mask without these.

    Args:
        film: as read; its header may state the side of one knee.
        prediction: of the film.
        magnification: as for `spacing.bone_spacing`.

    Returns:
        The measurements; no knee without femur and tibia.
    """
    pixel = spacing.bone_spacing(film.bone_spacing, film.bone_spacing_kind, magnification)
    structures = tuple(prediction.confidence)
    header_side = dicom_header.SIDES.get(film.laterality, "")
    knees = {}
    for side in measurements.knees_of(structures):
        bones = bones_of(prediction, side)
        fibula = prediction.predicted_dice.get(f"{side} fibula".strip())
        if fibula is not None and fibula.value < MIN_FIBULA_DICE:  # it would decide the side
            bones.pop("fibula", None)
        knees[side] = measurements.measure(bones, pixel.mm, side or header_side, refusal=pixel.refusal)
    return FilmMeasurements(knees, pixel)


def bones_of(prediction: Prediction, side: str = "") -> dict[str, np.ndarray]:
    """Return the whole bones of one knee, bool[H, W] each: their outlines where there are any, else of the mask.

    Args:
        prediction: of a film.
        side: "right" or "left" knee of a film of both.
    """
    bones = measurements.whole_bones(prediction.mask, tuple(prediction.confidence), side)
    prefix = f"{side} " if side else ""
    for bone in BONES:
        if outline := prediction.outlines.get(f"{prefix}whole {bone}"):
            bones[bone] = outline.mask
    return bones


def _begins_file(row: Sequence[str]) -> bool:
    return row[_KNEE] != "left" and row[_MEASUREMENT] == next(iter(measurements.MEASUREMENTS))
