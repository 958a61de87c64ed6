"""Reads DICOM images: one frame, its header by `dicom_header`, and its pixels by `dicom_pixels`."""

import io
import struct
import textwrap
import warnings
import zlib
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from PIL import Image

from kneefair_jax.data.readers import dicom_header, dicom_pixels, limits, pixels
from kneefair_jax.data.readers.pixels import Radiograph
from kneefair_jax.errors import InputError

_PIXELS = ("PixelData", "FloatPixelData", "DoubleFloatPixelData")
# Lossless compressed transfer syntaxes; JPEG 2000 that is not "Lossless Only" may be lossy (PS3.5, A.4.4).
_LOSSLESS = (
    "1.2.840.10008.1.2.1.98",  # encapsulated uncompressed
    *(f"1.2.840.10008.1.2.4.{process}" for process in (57, 58, 65, 66, 70, 80, 90, 92, 110, 201, 202)),
    "1.2.840.10008.1.2.5",  # RLE
)
# Markers of JPEG's frame headers, and of JPEG-LS's.
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC} | {0xF7}
_GROUPS = (b"\x08\x00", b"\x02\x00")  # the first bytes of a file without preamble, little endian


def read(path: Path, mask: bool) -> Radiograph:
    """Decode an image, or a mask whose labels are the stored values.

    Raises:
        InputError: the file has no image, several frames, a palette, an inconsistent header, or a mask in a lossy
            transfer syntax.
    """
    dataset = load(path)
    if not any(name in dataset for name in _PIXELS):
        raise InputError(f"{path}: a DICOM file without an image; remove it")
    if "SegmentSequence" in dataset:  # `mask_files` reads segmentations
        raise InputError(f"{path}: a DICOM segmentation, not a radiograph; give it as a mask")
    if int(dataset.get("NumberOfFrames") or 1) > 1:
        raise InputError(f"{path}: holds several frames; give one image per file")
    if dataset.get("PhotometricInterpretation") == "PALETTE COLOR":
        raise InputError(f"{path}: DICOM with a color palette; export it as MONOCHROME2 or RGB")
    if mask:
        require_lossless(dataset, path)
    require_size(dataset, path)
    spacing, kind, notes = dicom_header.spacing(dataset, path)
    stored = _decode_pixels(dataset, path)
    valid = None
    if mask:
        pixels = dicom_pixels.within_bits(stored, dataset)
    else:
        pixels, valid, pixel_notes = dicom_pixels.bright(stored, dataset, path)
        notes = (*notes, *pixel_notes)
    grid, view = dicom_header.geometry(dataset)
    side = dicom_header.laterality(dataset)
    notes = (*notes, *side.notes)
    return Radiograph(pixels, spacing, kind, valid, grid, view, notes, side.side, side.bilateral)


def load(path: Path, *, header: bool = False) -> Any:
    """Return the data set; a file without preamble and meta header must parse as an image.

    Args:
        path: of the file.
        header: whether to stop before the pixels.

    Raises:
        InvalidDicomError: the file is not a DICOM image.
    """
    from pydicom.errors import InvalidDicomError
    from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

    try:
        dataset = parse(path, stop_before_pixels=header)
    except InvalidDicomError as error:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                dataset = parse(path, stop_before_pixels=header, force=True)
                is_image = "Rows" in dataset and "Columns" in dataset
            except Exception:  # the parser raises many errors for other files
                is_image = False
        if not is_image:
            raise error
    if "TransferSyntaxUID" not in dataset.file_meta:
        implicit, little = dataset.original_encoding
        explicit = ExplicitVRLittleEndian if little else ExplicitVRBigEndian
        dataset.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian if implicit else explicit
    return dataset


def parse(path: Path, **options: Any) -> Any:
    """Return `pydicom.dcmread` of a file, with its options.

    Raises:
        InputError: the file cannot be opened, or is too large, including its expanded deflated parts.
        InvalidDicomError: the file is not DICOM.
    """
    import pydicom

    with limits.open_regular(path) as file:
        _require_expandable(file, path)
        file.seek(0)
        return pydicom.dcmread(file, **options)


def _require_expandable(file: BinaryIO, path: Path) -> None:
    """Require that a deflated data set expands to a size within the limits, which pydicom does not check."""
    from pydicom.filereader import read_dataset
    from pydicom.uid import DeflatedExplicitVRLittleEndian

    file.seek(0 if file.read(132)[128:] != b"DICM" else 132)
    try:
        meta = read_dataset(file, False, True, stop_when=lambda tag, vr, length: tag >> 16 != 2)
        deflated = meta.get("TransferSyntaxUID") == DeflatedExplicitVRLittleEndian
    except Exception:  # no meta header: `dcmread` reports the fault
        return
    if deflated:
        limits.require_expandable(file.read(), zlib.decompressobj(-zlib.MAX_WBITS), path)


def require_size(dataset: Any, path: Path) -> None:
    """Require that the header's number of pixels is within the limits and equals that in the file.

    Raises:
        InputError: the numbers differ, or exceed a limit.
    """
    rows, columns = int(dataset.get("Rows") or 0), int(dataset.get("Columns") or 0)
    frames, samples = int(dataset.get("NumberOfFrames") or 1), int(dataset.get("SamplesPerPixel") or 1)
    bits = int(dataset.get("BitsAllocated") or 8)
    limits.require_size(rows, columns, frames * samples * -(-bits // 8), path)
    if dataset.file_meta.TransferSyntaxUID.is_compressed:
        _require_codestream(dataset, rows, columns, path)
        return
    needed = -(-rows * columns * frames * samples * bits // 8)
    stored = [dataset[name].value for name in _PIXELS if name in dataset]
    excess = sum(map(len, stored)) - needed
    # Some writers add padding: less than a row, or zeros.
    if excess >= max(2, columns * samples * bits // 8) and any(stored[0][needed:]):
        raise InputError(
            f"{path}: contains {excess} bytes of pixels more than its header's {rows} x {columns} pixels; export it "
            "again"
        )


def _require_codestream(dataset: Any, rows: int, columns: int, path: Path) -> None:
    """Require that a compressed frame has the header's size, which decoders do not check.

    Raises:
        InputError: it has another size.
    """
    from pydicom.encaps import get_frame

    try:
        size = _codestream_size(get_frame(dataset.PixelData, 0, number_of_frames=1))
    except Image.DecompressionBombError:
        size = (0, 0)
    except Exception:  # another compression, or damage, which the decoder reports
        return
    if size is not None and size != (rows, columns):
        raise InputError(
            f"{path}: its compressed image has another size than the header's {rows} x {columns} pixels; export it "
            "again"
        )


def _codestream_size(frame: bytes) -> tuple[int, int] | None:
    """Return rows and columns of a JPEG, JPEG-LS or JPEG 2000 frame; None if a later marker has them (T.81, B.2)."""
    if not frame.startswith(b"\xff\xd8"):
        with Image.open(io.BytesIO(frame), formats=("JPEG2000",)) as image:
            return image.height, image.width
    offset = 2
    while frame[offset] == 0xFF:
        if frame[offset + 1] in _FRAMES:
            rows, columns = struct.unpack(">HH", frame[offset + 5 : offset + 9])
            return (rows, columns) if rows else None
        is_filler = frame[offset + 1] == 0xFF
        offset += 1 if is_filler else 2 + int.from_bytes(frame[offset + 2 : offset + 4], "big")
    return None


def require_lossless(dataset: Any, path: Path) -> None:
    """Require a lossless transfer syntax.

    Raises:
        InputError: the transfer syntax may be lossy.
    """
    syntax = dataset.file_meta.TransferSyntaxUID
    if syntax not in _LOSSLESS and syntax.is_compressed:
        pixels.refuse_lossy(path, f"DICOM in the transfer syntax {syntax.name}")


def is_dicom(path: Path) -> bool:
    """Return whether a file is DICOM by its content; in archives such as OAI's, names have no extension, or UIDs."""
    with limits.open_regular(path) as file:
        start = file.read(132)
    if start[128:] == b"DICM":
        return True
    if start[:2] not in _GROUPS:
        return False
    try:
        load(path, header=True)
    except Exception:  # the parser raises many errors for other files
        return False
    return True


def _decode_pixels(dataset: Any, path: Path) -> np.ndarray:
    from pydicom.pixels.utils import pixel_array

    syntax = dataset.file_meta.TransferSyntaxUID
    try:
        return pixel_array(dataset, correct_unused_bits=False)
    except Exception as error:
        if not syntax.is_compressed:
            raise
        raise InputError(
            f"{path}: unreadable file (compressed DICOM, {syntax.name}: {brief(error, path)}); "
            "pip install 'kneefair_jax[dicom]', or export it uncompressed"
        ) from error


def brief(error: Exception, path: Path) -> str:
    """Return the first sentence of a library's message, shortened, without the file's folder."""
    text = str(error).replace(str(path), path.name)  # before shortening, which may cut a path
    return textwrap.shorten(text.partition(". ")[0], 100, placeholder=" ...") or type(error).__name__
