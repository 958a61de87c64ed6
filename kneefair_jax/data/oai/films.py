"""One bilateral film as the OAI stores it: what its DICOM header says, its picture and its mask.

Image left is the patient's right knee.
"""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from kneefair_jax import anatomy
from kneefair_jax.data import inspection, layouts, mask_files, readers
from kneefair_jax.data.oai import tables
from kneefair_jax.data.readers import dicom, laterality
from kneefair_jax.errors import InputError

SERIES = "Bilateral PA Fixed Flexion Knee"
STRUCTURES = anatomy.SCHEMES["knees"]
VALUES = {name: (label,) for label, name in enumerate(STRUCTURES, start=1)}  # of masks
WINDOW = (5.0, 99.0)  # percentiles of the film
PLAUSIBLE_MM = (0.05, 1.0)  # knee films of the OAI have 0.2-0.4 mm

_SPACINGS = ("ImagerPixelSpacing", "PixelSpacing")
_TAGS = [
    *_SPACINGS,
    *("SeriesDescription", "AccessionNumber", "Rows"),
    *("ImageLaterality", "Laterality", "FieldOfViewHorizontalFlip", "SharedFunctionalGroupsSequence"),
    *("PatientOrientation", "ImageOrientationPatient"),
]


class Film(NamedTuple):
    """A film and its mask.

    Attributes:
        name: what it is called in reports; its case id, or the beginning of its knees'.
        patient: ID, seven digits.
        visit: of the tables, "00" for baseline.
        barcode: its eight digits, or "".
        path: of the DICOM file.
        description: of its series as a list of contents gives it, or "".
        mask: path of the mask, or None.
        spacing: mm per stored pixel down and across; 0 until the header is read.
        notes: what is odd about the tags of side and orientation.
    """

    name: str
    patient: str
    visit: str
    barcode: str
    path: Path
    description: str = ""
    mask: Path | None = None
    spacing: tuple[float, float] = (0.0, 0.0)
    notes: tuple[str, ...] = ()


def inspect(film: Film, *, must_be_named: bool) -> tuple[Film, list[str]]:
    """Reads a film's header, not its pixels.

    Args:
        film: where it is.
        must_be_named: whether a film of which nothing says what series it is from is refused.

    Returns:
        The film with its spacing, barcode and notes, and why it cannot be used: an empty list if it can.
    """
    if film.description and _plain(film.description) != _plain(SERIES):
        return film, [f"not a {SERIES}"]  # most of a download: hands, hips, whole limbs; they are not opened
    try:
        header = dicom.parse(film.path, stop_before_pixels=True, specific_tags=_TAGS)
        described = str(header.get("SeriesDescription") or "").strip()
        digits = tables.barcode(str(header.get("AccessionNumber") or ""))
        values = [header.get(name) for name in _SPACINGS]
        side, (_, view) = dicom.laterality_of(header), dicom.geometry(header)
    except Exception as error:  # a damaged file can fail anywhere in the parser
        return film, [f"unreadable DICOM header ({type(error.__cause__ or error).__name__})"]
    if "Rows" not in header:
        return film, ["its DICOM file holds no picture"]
    reasons = []
    if described and _plain(described) != _plain(SERIES):
        reasons.append(f"not a {SERIES}")
    elif not described and not film.description and must_be_named:
        reasons.append(f"nothing says that it is a {SERIES}")
    if film.barcode and digits and digits != film.barcode:
        reasons.append("its AccessionNumber is another film's")
    spacing, problem = _spacing(values)
    if problem:
        reasons.append(problem)
    notes = side.notes
    if side.side in laterality.SIDES:
        notes += (f"the header states the {laterality.SIDES[side.side]} knee alone",)
    if view != readers.NONE:
        notes += (
            f"PatientOrientation states that {readers.name_of(view)} brings the patient's right to image left, and the "
            "film is used as stored",
        )
    return film._replace(spacing=spacing, barcode=film.barcode or digits, notes=notes), reasons


class Arrays(NamedTuple):
    """A film and its mask, in which the patient's right is at image left.

    Attributes:
        image: u8[H, W, 1].
        label: u8[H, W] of the scheme `knees`.
        spacing: f32[2], mm per pixel down and across.
        spacing_kind: of `readers.Radiograph`.
        notes: what is odd about the headers of film and mask.
    """

    image: np.ndarray
    label: np.ndarray
    spacing: np.ndarray
    spacing_kind: str = ""
    notes: tuple[str, ...] = ()


def read(film: Film, flag: layouts.Flag) -> Arrays:
    """Reads a film and its mask.

    Args:
        film: with mask and spacing.
        flag: how the mask lies on the film where their headers leave it open.

    Raises:
        InputError: a file is unreadable, or the mask does not fit.
    """
    if film.mask is None:
        raise ValueError("a film without its mask is no case")
    radiograph, mask = readers.read_radiograph(film.path), mask_files.read(film.mask, VALUES)
    files = layouts.File(film.mask, mask.orientation), layouts.File(film.path, radiograph.orientation)
    correction = layouts.mask_to_film(*files, flag)
    label = correction.apply(mask.values)
    image = picture(radiograph, film.path)
    spacing = (radiograph.orientation or readers.NONE).of_pair(np.array(film.spacing, np.float32))
    unknown = np.full(2, np.nan, np.float32)
    notes = [
        *(f"film: {text}" for text in dict.fromkeys((*radiograph.notes, *film.notes))),
        *(f"mask: {text}" for text in mask.notes),
        *inspection.spacing_notes(spacing, correction.of_pair(mask.spacing), unknown),
    ]
    label = labels(label, image.shape[:2], film.mask)
    return Arrays(image, label, spacing, radiograph.spacing_kind, tuple(notes))


def picture(film: readers.Radiograph, path: Path) -> np.ndarray:
    """Return the film as displayed, u8[H, W, 1]: bone is bright, the 5th percentile is 0 and the 99th 255.

    Raises:
        InputError: it is in color.
    """
    if film.pixels.shape[2] != 1:
        raise InputError(f"{path}: a film in colour; download it again")
    return readers.to_uint8(film.pixels.astype(np.float32), WINDOW, film.valid)


def labels(label: np.ndarray, shape: tuple[int, ...], path: Path) -> np.ndarray:
    """Return the mask of a film, u8[H, W] of the scheme `knees`.

    Args:
        label: integers [H, W], laid out as the film is.
        shape: rows and columns of the film.
        path: of the mask, for messages.

    Raises:
        InputError: it is of another size, empty, has labels beyond the scheme, or has the patient's
            right knee to the right of the left one, or of the film's centre where there is but one.
    """
    if label.shape != tuple(shape):
        raise InputError(
            f"{path}: the mask has {label.shape} rows and columns, its film has {tuple(shape)}; export it on the "
            "film's grid"
        )
    outside = np.setdiff1d(label, np.arange(len(STRUCTURES) + 1))
    if outside.size:
        raise InputError(
            f"{path}: label {outside[-1]} is outside the scheme 0-{len(STRUCTURES)}; number the structures as in "
            f"the scheme 'knees': {', '.join(STRUCTURES)}"
        )
    if not label.any():
        raise InputError(f"{path}: the mask is empty; draw it, or remove it")
    columns = (np.flatnonzero(of_side(label, side).any(axis=0)) for side in ("right", "left"))
    right, left = (drawn.mean() if drawn.size else (label.shape[1] - 1) / 2 for drawn in columns)
    if right > left:
        raise InputError(
            f"{path}: the patient's right knee is drawn at image right, but the OAI's films show it at image left; "
            "swap the labels of the sides, or mirror the mask"
        )
    return label.astype(np.uint8)


def of_side(label: np.ndarray, side: str) -> np.ndarray:
    """bool[H, W], where a mask of the scheme `knees` shows the right or the left knee."""
    values = [value for value, name in enumerate(STRUCTURES, start=1) if name.startswith(side)]
    return np.isin(label, values)


def _plain(text: str) -> str:
    return " ".join(text.lower().replace("_", " ").split())


def _spacing(values: list[Any]) -> tuple[tuple[float, float], str]:
    """The first spacing stated, and what is wrong with it.

    The detector's own comes first: PixelSpacing may have been calibrated on an object in the film. A zero there is a
    broken header, so the next one is not tried.
    """
    none = (0.0, 0.0)
    stated = next((value for value in values if value is not None and np.size(value) and value != ""), None)
    if stated is None:
        return none, "no pixel spacing in its header"
    if isinstance(stated, str):
        stated = stated.strip("[] ").replace(",", "\\").split("\\")
    try:
        down, across = (float(value) for value in np.broadcast_to(np.array(stated, float).ravel(), 2))
    except ValueError:
        return none, "its header's pixel spacing is not a number or two"
    if down == 0 or across == 0:
        return none, "its header's pixel spacing is 0"
    low, high = PLAUSIBLE_MM
    if not (low <= down <= high and low <= across <= high):
        return none, f"its header's pixel spacing is not between {low:g} and {high:g} mm"
    return (down, across), ""
