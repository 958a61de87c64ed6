"""Make a DICOM segmentation object of a mask, with highdicom."""

import importlib.metadata
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from kneefair_jax.data.readers import dicom, dicom_header
from kneefair_jax.errors import InputError

# SNOMED CT codes of the structures, and of their sides.
CODES = {
    "femur": ("71341001", "Femur"),
    "whole femur": ("71341001", "Femur"),
    "tibia": ("12611008", "Tibia"),
    "whole tibia": ("12611008", "Tibia"),
    "fibula": ("87342007", "Fibula"),
    "whole fibula": ("87342007", "Fibula"),
    "patella": ("64234005", "Patella"),
    "whole patella": ("64234005", "Patella"),
}
# Attributes of a film's header that an anonymous segmentation copies: how its pixels are stored and lie.
_TECHNICAL = (
    *("SOPClassUID", "Modality", "Rows", "Columns", "SamplesPerPixel", "PhotometricInterpretation"),
    *("BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation", "NumberOfFrames"),
    *("PixelSpacing", "ImagerPixelSpacing", "PatientOrientation"),
)
# Attributes that highdicom requires of a film with a frame of reference; a projection seldom has all.
_PLACE = ("PixelSpacing", "SliceThickness", "ImagePositionPatient", "ImageOrientationPatient")
# Attributes that the standard requires, though they may be empty (type 2 of the modules Patient and General Study).
_IDENTITY = (
    *("PatientName", "PatientID", "PatientBirthDate", "PatientSex", "StudyID", "StudyDate", "StudyTime"),
    *("AccessionNumber", "ReferringPhysicianName"),
)
_UIDS = ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID")
ANATOMY = ("123037004", "SCT", "Anatomical Structure")


def make(
    path: Path,
    mask: np.ndarray,
    structures: tuple[str, ...],
    *,
    anonymous: bool = False,
    spacing: Sequence[float] | None = None,
) -> Any:
    """Return a binary segmentation that refers to the film's DICOM file, with a segment for each structure present.

    Segment numbers are consecutive, as the standard requires; a segment's label is its structure's name. The mask lies
    on the film's stored pixels, so the object repeats the film's ImageOrientationPatient and PixelSpacing if the film
    states them. It has the film's frame of reference only if the film states its place in it completely.

    Args:
        path: of the film.
        mask: of the film's stored pixels, a label map u8[H, W], or overlapping masks bool[H, W, S].
        structures: names of labels 1, 2, ...
        anonymous: whether to omit the patient's identity. By the standard a segmentation carries the name, the
            identifiers and the dates of its film; without them, and with new UIDs, it no longer refers to its film.
        spacing: mm per stored pixel down and across, of a film whose header states none; None if it is unknown.

    Raises:
        InputError: the film is no DICOM file or lacks a field of the patient or the study, highdicom is missing, or the
            mask is empty.
    """
    highdicom = _highdicom()
    source = _load(path)
    cosines = dicom_header.directions(source) if dicom_header.geometry(source)[0] is not None else None
    if cosines is None or not all(source.get(name) for name in _PLACE):
        source.pop("FrameOfReferenceUID", None)
    if anonymous:
        source = _anonymize(source)
    remedy = (
        "use --format png" if anonymous else "add --anonymous, which leaves them out, or use --format png"
    )
    _require_identity(source, path, remedy)
    masks = mask if mask.ndim == 3 else mask[..., None] == np.arange(1, len(structures) + 1)
    present = np.flatnonzero(masks.any(axis=(0, 1))).tolist()
    if not present:
        raise InputError(f"{path}: nothing found, and an empty DICOM-SEG is not allowed; use --format png")
    segments = [
        _segment(highdicom, number, structures[index]) for number, index in enumerate(present, start=1)
    ]
    try:
        with warnings.catch_warnings():
            # about how the film's header writes names, which are copied as they are
            warnings.simplefilter("ignore")
            segmentation = _binary_segmentation(highdicom, source, masks[:, :, present], segments)
            geometry = segmentation.SharedFunctionalGroupsSequence[0]
            if cosines is not None:
                geometry.PlaneOrientationSequence = highdicom.PlaneOrientationSequence("PATIENT", cosines)
            if spacing is not None:
                geometry.PixelMeasuresSequence = [_measures(source, spacing)]
            if anonymous:
                segmentation.PatientIdentityRemoved = "YES"
                segmentation.DeidentificationMethod = "only attributes of the pixels kept; new UIDs"
            return segmentation
    except (AttributeError, ValueError, TypeError) as error:
        raise InputError(f"{path}: no DICOM-SEG can refer to this file ({error}); {remedy}") from error


def _highdicom() -> Any:
    try:
        import highdicom
    except ImportError as error:
        raise InputError("DICOM-SEG needs highdicom: pip install 'kneefair_jax[seg]'") from error
    return highdicom


def _require_identity(source: Any, path: Path, remedy: str) -> None:
    """Refuse a header without a field of the patient or the study that a segmentation of it must repeat."""
    from pydicom.datadict import dictionary_description

    if missing := [name for name in (*_IDENTITY, *_UIDS) if name not in source]:
        names = ", ".join(f"{dictionary_description(name)} ({name})" for name in missing)
        raise InputError(
            f"{path}: the header lacks fields that a DICOM-SEG of this film must repeat: {names}; {remedy}"
        )


def _binary_segmentation(highdicom: Any, source: Any, masks: np.ndarray, segments: Sequence[Any]) -> Any:
    """Return the segmentation object of one frame, with new UIDs; masks are bool[H, W, segments]."""
    from pydicom.uid import generate_uid

    return highdicom.seg.Segmentation(
        source_images=[source],
        pixel_array=masks[None].astype(np.uint8),
        segmentation_type=highdicom.seg.SegmentationTypeValues.BINARY,
        segment_descriptions=segments,
        series_instance_uid=generate_uid(),
        series_number=1,
        sop_instance_uid=generate_uid(),
        instance_number=1,
        manufacturer="kneefair_jax",
        manufacturer_model_name="kneefair_jax",
        software_versions=_version(),
        device_serial_number="0",
        series_description="Segmentation of knee bones (research)",
    )


def _load(path: Path) -> Any:
    try:
        return dicom.load(path)
    except InputError:
        raise
    except Exception as error:  # the parser has many; the film may have been replaced since it was read
        raise InputError(
            f"{path}: no DICOM file, so DICOM-SEG has nothing to refer to; use --format png"
        ) from error


def _measures(source: Any, spacing: Sequence[float]) -> Any:
    """Return the item of the Pixel Measures Sequence, with the film's slice thickness if its header states one."""
    from pydicom.dataset import Dataset

    measures = Dataset()
    measures.PixelSpacing = [f"{value:.6g}" for value in spacing]
    if source.get("SliceThickness"):
        measures.SliceThickness = source.SliceThickness
    return measures


def _anonymize(source: Any) -> Any:
    """Return a header with the technical attributes, empty identifying attributes, and new UIDs."""
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.uid import generate_uid

    bare = Dataset()
    bare.file_meta = FileMetaDataset()
    bare.file_meta.TransferSyntaxUID = source.file_meta.TransferSyntaxUID
    for keyword in _TECHNICAL:
        if keyword in source:
            setattr(bare, keyword, source[keyword].value)
    for keyword in _IDENTITY:
        setattr(bare, keyword, "")
    for keyword in _UIDS:
        setattr(bare, keyword, generate_uid())
    return bare


def _version() -> str:
    return importlib.metadata.version("kneefair_jax")


def _segment(highdicom: Any, number: int, name: str) -> Any:
    from pydicom.sr.coding import Code

    side, _, structure = name.partition(" ")
    code = CODES.get(name) or (CODES.get(structure) if side in ("right", "left") else None)
    kind = Code(code[0], "SCT", code[1]) if code else Code("structure", "99KNEEFAIR", name)
    return highdicom.seg.SegmentDescription(
        segment_number=number,
        segment_label=name,
        segmented_property_category=Code(*ANATOMY),
        segmented_property_type=kind,
        algorithm_type=highdicom.seg.SegmentAlgorithmTypeValues.AUTOMATIC,
        algorithm_identification=highdicom.AlgorithmIdentificationSequence(
            name="kneefair_jax", version=_version(), family=Code("123109", "DCM", "Artificial Intelligence")
        ),
    )
