"""One bilateral film as the OAI stores it: its DICOM header, its pixels, its mask and its two knees.

Image left is the patient's right knee.
"""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from scipy.ndimage import uniform_filter1d

from kneefair_jax import anatomy
from kneefair_jax.data import inspection, mask_files, readers
from kneefair_jax.data.oai import tables
from kneefair_jax.data.readers import dicom, dicom_header, limits, orientation
from kneefair_jax.errors import InputError

SERIES = "Bilateral PA Fixed Flexion Knee"
STRUCTURES = anatomy.SCHEMES["knees"]
SIDES = ("right", "left")
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
        name: in reports; its case id, or the beginning of its knees' case ids.
        patient: ID, seven digits.
        visit: of the tables, "00" for baseline.
        barcode: its eight digits, or "".
        path: of the DICOM file.
        description: of its series by the list of contents, or "".
        mask: path of the mask, or None.
        spacing: mm per stored pixel down and across; 0 until the header is read.
        notes: warnings on the tags of side and orientation.
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
    """Read a film's header, not its pixels.

    Args:
        film: with its path.
        must_be_named: whether a film is excluded if no source states its series.

    Returns:
        The film with its spacing, barcode and notes, and the reasons to exclude it, if any.
    """
    # Most of a download are hands, hips and whole limbs, which are not opened.
    if film.description and _plain(film.description) != _plain(SERIES):
        return film, [f"not a {SERIES}"]
    try:
        header = dicom.parse(film.path, stop_before_pixels=True, specific_tags=_TAGS)
        described = str(header.get("SeriesDescription") or "").strip()
        digits = tables.barcode(str(header.get("AccessionNumber") or ""))
        values = [header.get(name) for name in _SPACINGS]
        side, (_, view) = dicom_header.laterality(header), dicom_header.geometry(header)
    except Exception as error:  # a damaged file can fail anywhere in the parser
        return film, [f"unreadable DICOM header ({type(error.__cause__ or error).__name__})"]
    if "Rows" not in header:
        return film, ["its DICOM file holds no picture"]
    reasons = []
    if described and _plain(described) != _plain(SERIES):
        reasons.append(f"not a {SERIES}")
    elif not described and not film.description and must_be_named:
        reasons.append(f"no source states that it is a {SERIES}")
    if film.barcode and digits and digits != film.barcode:
        reasons.append("its AccessionNumber is another film's")
    spacing, problem = _spacing(values)
    if problem:
        reasons.append(problem)
    notes = side.notes
    if side.side in dicom_header.SIDES:
        notes += (f"the header states the {dicom_header.SIDES[side.side]} knee alone",)
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
        notes: warnings on the headers of film and mask.
    """

    image: np.ndarray
    label: np.ndarray
    spacing: np.ndarray
    spacing_kind: str = ""
    notes: tuple[str, ...] = ()


def read(film: Film, flag: orientation.Flag) -> Arrays:
    """Read a film and its mask.

    Args:
        film: with mask and spacing.
        flag: the orientation of the mask on the film, for files whose headers do not settle it.

    Raises:
        InputError: a file is unreadable, or the mask does not match the film.
    """
    if film.mask is None:
        raise ValueError("a film without a mask is not a case")
    radiograph, mask = readers.read_radiograph(film.path), mask_files.read(film.mask, VALUES)
    files = orientation.File(film.mask, mask.orientation), orientation.File(film.path, radiograph.orientation)
    correction = orientation.mask_to_film(*files, flag)
    label = correction.apply(mask.values)
    image = to_displayed(radiograph, film.path)
    spacing = (radiograph.orientation or readers.NONE).of_pair(np.array(film.spacing, np.float32))
    notes = [
        *(f"film: {text}" for text in dict.fromkeys((*radiograph.notes, *film.notes))),
        *(f"mask: {text}" for text in mask.notes),
        *inspection.spacing_notes(
            spacing,
            correction.of_pair(mask.spacing),
            limits.UNKNOWN_SPACING,
            (radiograph.spacing_kind, mask.spacing_kind),
        ),
    ]
    label = check_labels(label, image.shape[:2], film.mask)
    return Arrays(image, label, spacing, radiograph.spacing_kind, tuple(notes))


def to_displayed(film: readers.Radiograph, path: Path) -> np.ndarray:
    """Return the film as displayed, u8[H, W, 1]: bone is bright, the 5th percentile is 0 and the 99th is 255.

    Raises:
        InputError: the film is in color.
    """
    if film.pixels.shape[2] != 1:
        raise InputError(f"{path}: a film in color; download it again")
    return readers.to_uint8(film.pixels.astype(np.float32), WINDOW, film.valid)


def check_labels(label: np.ndarray, shape: tuple[int, ...], path: Path) -> np.ndarray:
    """Return the mask of a film, u8[H, W] of the scheme `knees`, after checks.

    Args:
        label: integers [H, W], oriented as the film.
        shape: rows and columns of the film.
        path: of the mask, for messages.

    Raises:
        InputError: the mask has another size, is empty, has labels outside the scheme, or shows the patient's right
            knee to the right of the left one (of the film's center if it shows one knee).
    """
    if label.shape != tuple(shape):
        raise InputError(
            f"{path}: the mask has {label.shape} rows and columns, its film has {tuple(shape)}; export it on the "
            "film's grid"
        )
    unknown_labels = np.setdiff1d(label, np.arange(len(STRUCTURES) + 1))
    if unknown_labels.size:
        raise InputError(
            f"{path}: label {unknown_labels[-1]} is outside the scheme 0-{len(STRUCTURES)}; number the structures as "
            f"in the scheme 'knees': {', '.join(STRUCTURES)}"
        )
    if not label.any():
        raise InputError(f"{path}: the mask is empty; draw it, or remove it")
    columns = (np.flatnonzero(of_side(label, side).any(axis=0)) for side in ("right", "left"))
    right, left = (knee.mean() if knee.size else (label.shape[1] - 1) / 2 for knee in columns)
    if right > left:
        raise InputError(
            f"{path}: the patient's right knee is drawn at image right, but the OAI's films show it at image left; "
            "swap the labels of the sides, or mirror the mask"
        )
    return label.astype(np.uint8)


def of_side(label: np.ndarray, side: str) -> np.ndarray:
    """Return bool[H, W], where a mask of the scheme `knees` shows the right or the left knee."""
    values = [value for value, name in enumerate(STRUCTURES, start=1) if name.startswith(side)]
    return np.isin(label, values)


def _plain(text: str) -> str:
    return " ".join(text.lower().replace("_", " ").split())


def _spacing(values: list[Any]) -> tuple[tuple[float, float], str]:
    """Return the first spacing in the header, and why it is unusable, or "".

    The detector's spacing comes first: PixelSpacing may have been calibrated on an object in the film. A spacing of
    zero means a damaged header, so the next tag is not tried.
    """
    none = (0.0, 0.0)
    spacing = next((value for value in values if value is not None and np.size(value) and value != ""), None)
    if spacing is None:
        return none, "no pixel spacing in its header"
    if isinstance(spacing, str):
        spacing = spacing.strip("[] ").replace(",", "\\").split("\\")
    try:
        down, across = (float(value) for value in np.broadcast_to(np.array(spacing, float).ravel(), 2))
    except ValueError:
        return none, "its header's pixel spacing is not one number or two"
    if down == 0 or across == 0:
        return none, "its header's pixel spacing is 0"
    low, high = PLAUSIBLE_MM
    if not (low <= down <= high and low <= across <= high):
        return none, f"its header's pixel spacing is not between {low:g} and {high:g} mm"
    return (down, across), ""


class Knee(NamedTuple):
    """The half of a film with one knee.

    Attributes:
        image: u8[H, w, 1].
        label: u8[H, w] of the scheme `knee`, without the other knee.
    """

    image: np.ndarray
    label: np.ndarray


def cut_knee(image: np.ndarray, label: np.ndarray, side: str, *, mirror: bool) -> Knee:
    """Crop one knee from a film at the midline: the patient's right knee is the half at image left.

    Args:
        image: u8[H, W, 1].
        label: u8[H, W] of the scheme `knees`.
        side: right or left, the patient's.
        mirror: whether to mirror a left knee, so that the fibula is at image left in every knee.
    """
    column = midline(image, label)
    half = slice(0, column) if side == "right" else slice(column, None)
    knee = Knee(image[:, half], _ONE_KNEE[side][label[:, half]])
    if mirror and side == "left":
        return Knee(*(np.ascontiguousarray(array[:, ::-1]) for array in knee))
    return knee


def midline(image: np.ndarray, label: np.ndarray) -> int:
    """Return the first column of the half at image right.

    It is halfway between the two knees of the mask. If the mask shows one knee, it is the darkest column of the part of
    the film's middle fifth outside the knee, by column means smoothed over 2 % of the width; of several equally dark
    columns, the middle one.

    Args:
        image: u8[H, W, 1].
        label: u8[H, W] of the scheme `knees`.
    """
    width = label.shape[1]
    right, left = (np.flatnonzero(of_side(label, side).any(axis=0)) for side in SIDES)
    if right.size and left.size:
        return int(right[-1] + 1 + left[0] + 1) // 2  # a half is rounded up
    low = max(2 * width // 5, right[-1] + 1 if right.size else 0)
    high = min(3 * width // 5, left[0] if left.size else width)
    if high <= low:  # the knee reaches across the middle
        return int(low if right.size else high)
    profile = uniform_filter1d(image.mean(axis=(0, 2)), max(1, width // 50), mode="nearest")
    darkest = low + np.flatnonzero(profile[low:high] == profile[low:high].min())
    return int(darkest[len(darkest) // 2])


def _one_knee(side: str) -> np.ndarray:
    """Return u8[9], the label in the scheme `knee` of each label of `knees`; the other side becomes background."""
    table = np.zeros(len(STRUCTURES) + 1, np.uint8)
    for value, name in enumerate(anatomy.SCHEMES["knee"], start=1):
        table[1 + STRUCTURES.index(f"{side} {name}")] = value
    return table


_ONE_KNEE = {side: _one_knee(side) for side in SIDES}
