"""Find the radiographs of a command line, and read each as an image for a network.

A film has the name of its results and the group of its patient; its image has the pixel spacing. The masks in a folder
of radiographs are told from the radiographs by their pixels and names.
"""

import glob
import logging
import os
import re
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePath
from typing import NamedTuple

import numpy as np

from kneefair_jax.data import cell_text, column_names, identifiers, mask_files, mask_names, metadata, readers
from kneefair_jax.data.readers import limits
from kneefair_jax.data.readers.limits import LARGEST_MM, SMALLEST_MM
from kneefair_jax.errors import InputError

logger = logging.getLogger(__name__)
SMALLEST = 16  # pixels along a side
STATED = "stated"  # the kind of a spacing that `--spacing` states
_LARGEST_RATIO = 2  # of rows to columns or the reverse; pixels of radiographs are square, or nearly so
MOST_LABELS = 32  # distinct values of a mask
# The share of pixels that equal their four neighbors. Of phantoms of 64 to 1024 pixels a side, films of 16 gray values
# have at most 0.58 and of 8 gray values 0.75; their masks have at least 0.84.
MIN_CONSTANT = 0.8
_SAMPLE = 10_000  # pixels


class Input(NamedTuple):
    """A file to segment.

    Attributes:
        path: the file.
        name: of its results, without ending: its path below the folder that was given.
        is_from_folder: whether a folder was given; its label images are left out.
    """

    path: Path
    name: str
    is_from_folder: bool = False


class LabelImageError(InputError):
    """A file of a folder holds the labels of a mask and is no radiograph."""


def find(arguments: Sequence[str], out: Path) -> Iterator[Input | InputError]:
    """Yield the image files in order, and an error for each file or folder that cannot be used.

    Of a folder, and those below it, these are the files that readers know by their ending or that are DICOM. Hidden
    files, everything in `out`, and links to folders are skipped. A label image with the name of another file gives a
    `LabelImageError`, so that the film of that name is segmented; `read` refuses the other label images.

    Args:
        arguments: files, folders and globs.
        out: the output folder.

    Raises:
        InputError: a folder is `out`, or in it: results could be taken for films.
    """
    path_of: dict[str, Path] = {}
    candidates = list(_candidates(arguments, out.resolve()))
    counts = Counter(item.name for item in candidates if isinstance(item, Input))
    for item in candidates:
        if isinstance(item, Input) and item.is_from_folder and counts[item.name] > 1:
            try:
                read(item.path, label_name=item.name)
            except LabelImageError as error:
                yield error
                continue
            except InputError:  # reported when it is segmented
                pass
        if isinstance(item, Input) and item.name in path_of:
            other = path_of[item.name]
            real, other_real = os.path.realpath(item.path), os.path.realpath(other)
            if real == other_real:
                continue  # the same file twice
            remedy = "rename one of the two"
            if os.path.dirname(real) != os.path.dirname(other_real):
                remedy += ", or give the folder that holds both"
            yield InputError(
                f"{item.path}: its results would be called {item.name!r}, as those of {other}; {remedy}"
            )
            continue
        if isinstance(item, Input):
            path_of[item.name] = item.path
        yield item


def groups_of_cases(path: Path, names: Sequence[str], *, allow_similar: bool = False) -> dict[str, str]:
    """Return the group of each case, as the networks' groups are called; log notes on how the table was read.

    Args:
        path: a CSV table with `case_id` and a column for each attribute of the groups; other columns are ignored.
        names: of the groups that have a network: `sex=female,race=A`.
        allow_similar: whether case ids may look alike.

    Returns:
        case id -> group.

    Raises:
        InputError: the networks serve all groups, or the table cannot be read, lacks a column, has a case twice or one
            of a group without a network.
    """
    if not names:
        raise InputError(
            "--metadata states each film's group, but these networks serve all groups; leave it out"
        )
    table, written, notes, _ = metadata.read(path)
    attributes = re.findall(r"(?:^|,)([^=,]+)=", names[0])
    if missing := [column for column in ("case_id", *attributes) if column not in table]:
        raise InputError(
            f"{path}: no column {missing[0]!r}, which {names[0]!r} needs{column_names.suggestion(missing[0], table)}; "
            f"it has {', '.join(table)}"
        )
    problems: list[metadata.Problem] = []
    options = metadata.Options(similar="--allow-similar-ids", allow_similar=allow_similar)
    metadata.check_identifiers(table, problems, ("case_id",), options)
    if "patient_id" in table and not allow_similar:
        patients = table["patient_id"][~table["patient_id"].map(cell_text.is_missing)]
        problems += identifiers.similar(dict(patients.items()), "patient_id", "patient", options.similar)
    groups = {}
    for row, case in table["case_id"].items():
        group = ",".join(f"{attribute}={table.at[row, attribute]}" for attribute in attributes)
        if group not in names:
            networks = ", ".join(map(repr, names))
            problems.append(
                (row, f"case {case!r} is of group {group!r}, which has no network; there are {networks}")
            )
        groups[case] = group
    metadata.refuse(path, problems)
    for note in [*notes, *metadata.word_notes(written, attributes)]:
        logger.info("note: %s", note)
    return groups


def _candidates(arguments: Sequence[str], out: Path) -> Iterator[Input | InputError]:
    """Yield the files of each argument, or an error for it; a file may occur several times."""
    for text in arguments:
        path = Path(text)
        if os.path.isdir(path):
            if path.resolve().is_relative_to(out):
                raise InputError(
                    f"--out {out} is, or holds, the folder of films {path}: results and films would mix; "
                    "choose another folder for --out"
                )
            files: list[Input | InputError] = [
                file if isinstance(file, InputError) else Input(file, _stem(file.relative_to(path)), True)
                for file in _image_files(path, out)
            ]
            yield from files or [InputError(f"{path}: no image files in this folder")]
        elif limits.is_present(path) or not glob.has_magic(text):
            yield Input(path, _stem(Path(path.name)))
        elif matches := sorted(filter(limits.is_present, map(Path, glob.glob(text, recursive=True)))):
            yield from (Input(file, _stem(Path(file.name))) for file in matches)
        else:
            yield InputError(f"{text}: no file matches")


def _image_files(folder: Path, out: Path) -> Iterator[Path | InputError]:
    paths, errors = mask_files.list_files(folder)
    yield from errors
    for path in paths:
        is_hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
        is_output = Path(os.path.realpath(path)).is_relative_to(out)
        is_image = bool(readers.suffix_of(path.name)) or readers.has_dicom_magic(path)
        if is_image and not is_hidden and not is_output:
            yield path


def _stem(path: Path) -> str:
    name = path.as_posix()
    return name[: len(name) - len(readers.suffix_of(name))]


class Film(NamedTuple):
    """A radiograph and what its header states.

    Attributes:
        path: its file.
        image: u8[H, W, 1], bone bright, the patient's right at image left where the header says so.
        spacing: f32[2], mm per pixel down and across; NaN where unknown.
        is_bilateral: whether its header says that it shows both knees.
        notes: quality warnings about the header and the pixels.
        spacing_kind: of `readers.Radiograph`, or `STATED`.
        orientation: what displays the stored pixels, or None, of `readers.Radiograph`.
        view: what turns the displayed pixels to `image`, of `readers.Radiograph`.
        laterality: which knee its header states, of `readers.Radiograph`.
        bone_spacing: f32[2], in the plane of the bones, of `readers.Radiograph`.
        bone_spacing_kind: of `readers.Radiograph`, or `STATED`.
    """

    path: Path
    image: np.ndarray
    spacing: np.ndarray
    is_bilateral: bool
    notes: tuple[str, ...]
    spacing_kind: str = "unknown"
    orientation: readers.Orientation | None = None
    view: readers.Orientation = readers.NONE
    laterality: str = ""
    bone_spacing: np.ndarray = limits.UNKNOWN_SPACING
    bone_spacing_kind: str = "unknown"

    def to_displayed(self, mask: np.ndarray) -> np.ndarray:
        """Return a mask of `image` as a mask of the displayed pixels, which a file without orientation holds."""
        return self.view.undo(mask)

    def to_stored(self, mask: np.ndarray) -> np.ndarray:
        """Return a mask of `image` as a mask of the film's stored pixels."""
        return (self.orientation or readers.NONE).undo(self.view.undo(mask))

    def stored_spacing(self) -> np.ndarray:
        """Return f32[2], mm per stored pixel down and across; NaN where unknown."""
        return (self.orientation or readers.NONE).of_pair(self.view.of_pair(self.spacing))


def read(path: Path, label_name: str | None = None) -> Film:
    """Read an image file.

    Args:
        path: the file.
        label_name: its name in a folder, of which label images are refused; None accepts them as radiographs.

    Raises:
        LabelImageError: it holds labels, and `label_name` is given.
        InputError: it is unreadable, too large (also for the memory of the machine), too small or blank.
    """
    try:
        return _read(path, label_name)
    except MemoryError as error:
        raise InputError(f"{path}: too large for this machine's memory; make it smaller") from error


def _read(path: Path, label_name: str | None) -> Film:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about damaged headers; the reader refuses what cannot be used
        if label_name is not None and mask_files.is_dicom_seg(path):
            raise LabelImageError(f"{path}: a DICOM segmentation, not a radiograph")
        film = readers.read_radiograph(path)
    if label_name is not None and is_label_image(film.pixels, label_name):
        raise LabelImageError(f"{path}: a label image, not a radiograph")
    image = film.view.apply(readers.to_uint8(film.pixels, valid=film.valid))
    grey = readers.to_gray(image)
    try:
        require_picture(grey)
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
    is_colored = image.shape[2] == 3 and np.ptp(image.astype(np.int16), axis=2).mean() > 8
    return Film(
        path,
        grey,
        film.view.of_pair(film.spacing),
        film.bilateral,
        (*film.notes, *(["in colour"] if is_colored else [])),
        film.spacing_kind,
        film.orientation,
        film.view,
        film.laterality,
        film.view.of_pair(film.bone_spacing),
        film.bone_spacing_kind,
    )


def is_label_image(pixels: np.ndarray, name: str) -> bool:
    """Return whether an image has few values, and its regions or its name are those of a mask.

    An image of two values is a mask. One of a single value is a mask if its name says so, and else a blank film.

    Args:
        pixels: [H, W] or [H, W, C], as in the file.
        name: path of the file in the folder of films.
    """
    values = pixels.ravel()
    # Most radiographs end here, in a millisecond.
    if len(np.unique(values[:: max(1, values.size // _SAMPLE)])) > MOST_LABELS:
        return False
    count = len(np.unique(values))
    if count > MOST_LABELS:
        return False
    is_constant = count == 2 or (count > 2 and constant_share(pixels) >= MIN_CONSTANT)
    return is_constant or mask_names.names_mask(PurePath(name))


def constant_share(pixels: np.ndarray) -> float:
    """Return the share of inner pixels that equal all four neighbors; 0 for an image without inner pixels."""
    inner = pixels[1:-1, 1:-1]
    if not inner.size:
        return 0.0
    neighbors = (pixels[:-2, 1:-1], pixels[2:, 1:-1], pixels[1:-1, :-2], pixels[1:-1, 2:])
    is_equal = np.logical_and.reduce([inner == neighbor for neighbor in neighbors])
    return float(is_equal.mean())


def require_picture(image: np.ndarray) -> None:
    """Refuse u8[H, W, 1] that cannot be a radiograph.

    Raises:
        InputError: it is too small, too large, or blank.
    """
    height, width = image.shape[:2]
    if min(height, width) < SMALLEST:
        raise InputError(f"{height} x {width} pixels; a radiograph has at least {SMALLEST} a side")
    if height * width > limits.MOST_PIXELS:
        raise InputError(
            f"{height} x {width} pixels, more than {limits.MOST_PIXELS // 10**6} million; make it smaller"
        )
    if image.min() == image.max():
        raise InputError("all pixels are alike; export the film again")


def parse_spacing(text: str) -> np.ndarray:
    """Return f32[2], mm per pixel down and across, of `--spacing`: `0.15`, `0.15,0.2` or, as in tables, `0.15x0.2`.

    Raises:
        InputError: it is not one number or two, not between 0.01 and 5 mm, two integers with a comma (which may be one
            number with a decimal comma), or of pixels more than twice as long as wide.
    """
    try:
        values = [cell_text.parse_number(word) for word in re.split("[,x]", text)]
    except ValueError:
        values = []
    if len(values) not in (1, 2) or not all(SMALLEST_MM <= value <= LARGEST_MM for value in values):
        raise InputError(
            f"--spacing {text}: give the pixel spacing in mm, between {SMALLEST_MM} and {LARGEST_MM:g}, as one number "
            "or as ROW,COLUMN, with decimal points: --spacing 0.15 or --spacing 0.15,0.2"
        )
    if re.fullmatch(r"\s*\d+\s*,\s*\d+\s*", text):
        decimal = re.sub(r"\s*,\s*", ".", text.strip())
        raise InputError(
            f"--spacing {text}: the comma may be a decimal comma; write {decimal} for one number, or "
            f"{text.replace(',', 'x')} for ROW x COLUMN"
        )
    if max(values) > _LARGEST_RATIO * min(values):
        raise InputError(
            f"--spacing {text}: {values[0]:g} mm down and {values[1]:g} mm across differ by more than a factor of "
            f"{_LARGEST_RATIO}, which no radiograph has; give ROW,COLUMN with decimal points: --spacing 0.15,0.2"
        )
    return np.array(np.broadcast_to(np.array(values, np.float32), 2))


def with_stated_spacing(film: Film, spacing: np.ndarray) -> Film:
    """Return the film with the stated spacing if its file states none; else the film, with a note if the two differ.

    Args:
        film: as read.
        spacing: f32[2], mm per pixel down and across, of the film as it is displayed.
    """
    stated = film.view.of_pair(spacing)
    if np.isnan(film.spacing).any():
        return film._replace(
            spacing=stated, spacing_kind=STATED, bone_spacing=stated, bone_spacing_kind=STATED
        )
    if limits.same_spacing(film.spacing, stated):
        return film
    by_flag, by_header = (" x ".join(f"{value:.4g}" for value in pair) for pair in (stated, film.spacing))
    # A text that began with `--spacing` would be a formula of a spreadsheet.
    note = f"the header states {by_header} mm, and --spacing {by_flag} mm; areas are by the header"
    return film._replace(notes=(*film.notes, note))
