"""Reads the headers of all files below a folder: what each file is, and what its header states about the patient."""

import collections
import re
import warnings
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from kneefair_jax.data import ages, dicom_seg, mask_files, mask_names, readers
from kneefair_jax.data.draft.identity import SHORTEST_PART, Identifiers, is_placeholder
from kneefair_jax.data.readers import dicom, dicom_header, nifti
from kneefair_jax.errors import InputError

FILM, MASK = "film", "mask"
_VIEWS = {
    "AP": r"AP|A\.P\.|ANTEROPOSTERIOR|ANTERIOR[ -]POSTERIOR",
    "PA": r"PA|P\.A\.|POSTEROANTERIOR|POSTERIOR[ -]ANTERIOR|ROSENBERG|FIXED FLEXION",
    "lateral": r"LAT|LATERAL|LL|RL|LLD|RLD|SEITLICH",
    "axial": r"AXIAL|SKYLINE|SUNRISE|MERCHANT|PATELLA AXIAL",
    "oblique": r"OBLIQUE|LLO|RLO|LAO|RAO|LPO|RPO",
}
_SEXES = {"M": "male", "F": "female", "O": "other"}
# Value representations (PS3.5, 6.2) whose standard elements hold no identifiers: terms, ages, numbers and times.
_TECHNICAL_VRS = frozenset({"CS", "AS", "IS", "DS", "TM"})
_TEXT_VRS = frozenset({"AE", "LO", "LT", "SH", "ST", "UC", "UI", "UN", "UR", "UT", "OB"}) | _TECHNICAL_VRS
# Standard elements of technical words. Every other text of a header is an identifier to look for.
_TECHNICAL = frozenset(
    {"Manufacturer", "ManufacturerModelName", "SoftwareVersions", "SOPClassUID", "ReferencedSOPClassUID"}
    | {"CodeValue", "CodeMeaning", "CodingSchemeDesignator", "CodingSchemeVersion", "SegmentLabel"}
    | {"SegmentDescription", "SegmentAlgorithmName", "DetectorDescription"}
)
_STANDARD_UIDS = "1.2.840.10008."  # of classes and syntaxes, not of instances
_LONGEST_TEXT = 10_000  # characters, of prose in a header


class Tags(NamedTuple):
    """What the header of a film states; "" where it states nothing.

    Attributes:
        patient_id: PatientID, by which a table is joined; never written.
        issuer: of the PatientID, or name and date of birth where there is none; never written.
        sex: male, female or other.
        age: years, at the examination.
        birth: date of birth, never written.
        study: date of the examination, never written.
        site: name of the institution, never written.
        manufacturer: of the device.
        side: left, right or both.
        view: a key of `_VIEWS`.
        spacing: mm per pixel of the displayed film, `0.15` or `0.15x0.2`.
        spacing_kind: of `readers.Radiograph`.
    """

    patient_id: str = ""
    issuer: str = ""
    sex: str = ""
    age: str = ""
    birth: str = ""
    study: str = ""
    site: str = ""
    manufacturer: str = ""
    side: str = ""
    view: str = ""
    spacing: str = ""
    spacing_kind: str = "unknown"


class File(NamedTuple):
    """A film or a mask.

    Attributes:
        path: relative to the folder.
        role: `FILM` or `MASK`.
        tags: of its header.
        uid: SOPInstanceUID of a DICOM file.
        references: the instances from which a DICOM-SEG was drawn.
        has_header: whether the file is DICOM, whose header states its patient.
        segments: the labels of a DICOM-SEG.
        parts: the files of a mask that has one file a structure, in the order of the structures.
    """

    path: Path
    role: str
    tags: Tags = Tags()
    uid: str = ""
    references: frozenset[str] = frozenset()
    has_header: bool = False
    segments: tuple[str, ...] = ()
    parts: tuple[Path, ...] = ()


class Scan(NamedTuple):
    """The films and masks of a folder.

    Attributes:
        files: sorted by path.
        excluded: reason -> number of the other files.
        identifiers: of all headers.
        paths: of all files, relative to the folder.
    """

    files: list[File]
    excluded: collections.Counter[str]
    identifiers: Identifiers
    paths: list[Path]


def read(
    root: Path,
    images: str = "",
    masks: str = "",
    progress: Callable[[Iterable[Path], int], Iterable[Path]] = lambda paths, total: paths,
) -> Scan:
    """Read the headers of all files below a folder.

    Args:
        root: the folder.
        images: the folder of the films below it; "" to search everywhere.
        masks: the folder of the masks below it; "" to tell masks from films by the names of folders and files.
        progress: wraps the paths.

    Raises:
        InputError: a folder is missing or cannot be listed.
    """
    for option, name in (("DIR", ""), ("--images", images), ("--masks", masks)):
        if not (root / name).is_dir():
            raise InputError(
                f"{option} {root / name}: no such folder; give the folder that contains the files"
            )
    listing = mask_files.list_files(root)
    if listing.errors:
        raise listing.errors[0]
    identifiers = Identifiers()
    excluded: collections.Counter[str] = collections.Counter()
    files = []
    for path in progress(listing.paths, len(listing.paths)):
        result = _read_file(root, path.relative_to(root), images, masks, identifiers)
        if isinstance(result, File):
            files.append(result)
        else:
            excluded[result] += 1
    return Scan(files, excluded, identifiers, [path.relative_to(root) for path in listing.paths])


def _read_file(root: Path, path: Path, images: str, masks: str, identifiers: Identifiers) -> File | str:
    """Return the file, or the reason for which it is neither a film nor a mask."""
    role = _role(path, images, masks)
    suffix = readers.suffix_of(path.name)
    if path.name.startswith(".") or path.name.upper() == "DICOMDIR":
        return "hidden files and DICOM directories"
    if not str(path).isprintable():
        return "names with characters that a table cannot hold"
    if not (root / path).is_file():
        return "links without a target, pipes and devices"
    is_dicom = suffix in readers.DICOM_SUFFIXES or (not suffix and readers.has_dicom_magic(root / path))
    if not suffix and not is_dicom:
        return "no image (by name and content)"
    if not role:
        return "outside --images and --masks"
    if suffix in readers.JPEG_SUFFIXES and role == MASK:
        return "JPEG among the masks (lossy)"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # pydicom's warnings repeat the values of a header
            if is_dicom:
                return _read_dicom(root, path, role, identifiers)
            tags = _nifti_tags(root / path) if suffix in readers.NIFTI_SUFFIXES else Tags()
    except Exception:  # libraries raise many errors for damaged files, and their texts may hold identifiers
        return "unreadable headers"
    return File(path, role, tags)


def _role(path: Path, images: str, masks: str) -> str:
    """Return `MASK` or `FILM` by the folder or the name of a file; "" outside the folders of `images` and `masks`."""
    if masks and path.is_relative_to(masks):
        return MASK
    if images and path.is_relative_to(images):
        return FILM
    if mask_names.names_mask(path):
        return "" if masks else MASK
    return "" if images else FILM


def _read_dicom(root: Path, path: Path, role: str, identifiers: Identifiers) -> File | str:
    header = dicom.load(root / path, header=True)
    _collect(header, identifiers)
    uid = str(header.get("SOPInstanceUID") or "")
    if dicom_seg.is_segmentation_header(header):
        tags = Tags(patient_id=_patient_id(header))
        segments = tuple(
            str(item.get("SegmentLabel", "")).strip() for item in header.get("SegmentSequence") or ()
        )
        references = frozenset(_references(header)) - {uid}
        return File(path, MASK, tags, uid, references, has_header=True, segments=segments)
    if "Rows" not in header or "Columns" not in header:
        return "DICOM without an image (reports, presentation states)"
    if int(header.get("NumberOfFrames") or 1) > 1:
        return "DICOM with several frames"
    return File(path, role, _dicom_tags(header, root / path), uid, has_header=True)


def _dicom_tags(header: Any, path: Path) -> Tags:
    patient_id, birth = _patient_id(header), _text(header, "PatientBirthDate")
    study = _text(header, "StudyDate") or _text(header, "AcquisitionDate") or _text(header, "ContentDate")
    name = _text(header, "PatientName")
    issuer = _text(header, "IssuerOfPatientID")
    if not patient_id:
        issuer = "" if is_placeholder(name) or not birth else f"{name}\0{birth}"
    side = dicom_header.laterality(header).side
    mm, kind = _dicom_spacing(header, path)
    return Tags(
        patient_id=patient_id,
        issuer=issuer,
        sex=_SEXES.get(_text(header, "PatientSex").upper(), ""),
        age=age_in_years(_text(header, "PatientAge"), birth, study),
        birth=birth,
        study=study,
        site=_text(header, "InstitutionName"),
        manufacturer=_text(header, "Manufacturer"),
        side={"R": "right", "L": "left", "B": "both"}.get(side, ""),
        view=_view(header),
        spacing=mm,
        spacing_kind=kind,
    )


def age_in_years(age: str, birth: str, study: str) -> str:
    """Return an age in years: DICOM's `065Y`, or completed years between two dates.

    It is "" if neither is usable, or above 120 years, as of the date of birth 1900-01-01, which stands for unknown.
    """
    if match := re.fullmatch(r"(\d{3})([YMWD])", age.strip().upper()):
        per_year = {"Y": 1.0, "M": 12.0, "W": 365.25 / 7, "D": 365.25}[match[2]]
        years = int(int(match[1]) / per_year)
    else:
        try:
            years = ages.completed_years(birth, study)
        except ValueError:
            return ""
    return str(years) if years <= ages.OLDEST else ""


def _view(header: Any) -> str:
    """Return the view by ViewPosition, or by a word of the descriptions; "" if several views are named."""
    for name in ("ViewPosition", "SeriesDescription", "ProtocolName", "StudyDescription"):
        text = _text(header, name).upper().replace("_", " ")
        views = [
            view for view, words in _VIEWS.items() if re.search(rf"(?<![A-Z0-9])({words})(?![A-Z0-9])", text)
        ]
        if views:
            return views[0] if len(views) == 1 else ""
    return ""


def _dicom_spacing(header: Any, path: Path) -> tuple[str, str]:
    try:
        mm, kind, _ = dicom_header.spacing(header, path)
    except InputError:  # an implausible header, which `check` reports
        return "", "unknown"
    return _format((dicom_header.geometry(header)[0] or readers.NONE).of_pair(mm)), kind


def _nifti_tags(path: Path) -> Tags:
    mm, kind = nifti.header_spacing(path)
    return Tags(spacing=_format(mm), spacing_kind=kind)


def _format(mm: np.ndarray) -> str:
    if np.isnan(mm).any():
        return ""
    down, across = (f"{float(value):.6g}" for value in mm)
    return down if down == across else f"{down}x{across}"


def _references(item: Any) -> Iterator[str]:
    """Yield the instances that a DICOM-SEG refers to, at any depth."""
    for element in item:
        if element.VR == "SQ":
            for child in element.value:
                yield from _references(child)
        elif element.keyword == "ReferencedSOPInstanceUID":
            yield str(element.value)


def _collect(item: Any, identifiers: Identifiers) -> None:
    """Add every text of a header, at any depth, except those of technical elements."""
    for tag in item.keys():  # noqa: SIM118 - a data set yields its elements, not its tags
        try:
            element = item[tag]
            value = element.value
        except Exception:  # pydicom converts the text here; the value may be an identifier with a wrong type
            identifiers.add(str(item.get_item(tag).value)[:200])
            continue
        if element.VR == "SQ":
            for child in value:
                _collect(child, identifiers)
            continue
        values = value if element.VM > 1 and not isinstance(value, bytes) else [value]
        for text in (text for value in values if value for text in _texts_of(value)):
            if element.VR == "PN":
                identifiers.add_name(text)
            elif element.VR in ("DA", "DT"):
                identifiers.add_date(text)
            elif element.keyword in ("PatientID", "OtherPatientIDs"):
                if not is_placeholder(text):
                    identifiers.add(text)
            elif element.VR in _TEXT_VRS and not _is_technical(element, text):
                identifiers.add_text(text)


def _texts_of(value: Any) -> list[str]:
    """Return the texts of an element's value; a private element may hold text as bytes."""
    if not isinstance(value, bytes):
        return [str(value).strip()[:_LONGEST_TEXT]]
    try:
        text = value[:_LONGEST_TEXT].decode(
            "utf-8", errors="replace" if len(value) > _LONGEST_TEXT else "strict"
        )
    except UnicodeDecodeError:
        text = value[:_LONGEST_TEXT].decode("latin-1")
    parts = [part.strip() for part in re.split(r"[\\\0]", text)]
    return [part for part in parts if part.isprintable()]


def _is_technical(element: Any, text: str) -> bool:
    """Return whether an element states technical words; a private element may state anything."""
    if element.tag.is_private_creator or element.tag.element == 0:
        return True
    if element.tag.is_private:
        is_number = (
            element.VR in ("IS", "DS") and len(re.sub(r"\D", "", text.partition(".")[0])) <= SHORTEST_PART
        )
        return is_number or element.VR == "TM" or len(text) < SHORTEST_PART
    return (
        element.VR in (_TECHNICAL_VRS | {"OB"})
        or element.keyword in _TECHNICAL
        or text.startswith(_STANDARD_UIDS)
        or len(text) < SHORTEST_PART  # `1` is a usual StudyID
    )


def _patient_id(header: Any) -> str:
    """Return PatientID, "" for a placeholder, which would make one patient of all."""
    text = _text(header, "PatientID")
    return "" if is_placeholder(text) else text


def _text(header: Any, name: str) -> str:
    return str(header.get(name) or "").strip()
