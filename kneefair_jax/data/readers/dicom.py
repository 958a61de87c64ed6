"""Reads DICOM images of one frame: values in which bone is bright, at full depth, without padding.

The order is the standard's (PS3.4 N.2): padding, Modality LUT, VOI LUT, polarity. A VOI window or LUT is a site's
proposal for the display and clips values, so only its direction is used: a decreasing LUT inverts the film.
MONOCHROME1 and PresentationLUTShape INVERSE state the same inversion, so both together invert once (PS3.3, General
Image module: INVERSE "shall be used if Photometric Interpretation is MONOCHROME1"). `dicom_header` reads the header.
"""

import io
import struct
import textwrap
import warnings
import zlib
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from PIL import Image

from kneefair_jax.data.readers import dicom_header, limits
from kneefair_jax.data.readers.pixels import Radiograph, refuse_lossy, to_native_dtype
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
        pixels = _within_bits(stored, dataset)
    else:
        pixels, valid, pixel_notes = _bright_pixels(stored, dataset, path)
        notes = (*notes, *pixel_notes)
    grid, view = dicom_header.geometry(dataset)
    side = dicom_header.laterality(dataset)
    notes = (*notes, *side.notes)
    in_bones = dicom_header.bone_spacing(dataset, path)
    return Radiograph(pixels, spacing, kind, valid, grid, view, notes, side.side, side.bilateral, *in_bones)


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
        refuse_lossy(path, f"DICOM in the transfer syntax {syntax.name}")


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


def _bright_pixels(
    stored: np.ndarray, dataset: Any, path: Path
) -> tuple[np.ndarray, np.ndarray | None, tuple[str, ...]]:
    """Return pixels in which bone is bright, the mask of those that are not padding (None: all), and notes.

    Args:
        stored: [H, W] as decoded by pydicom, with unused bits, or [H, W, 3].
        dataset: the header.
        path: the file, for the message.

    Raises:
        InputError: all pixels are padding, or a field is unusable.
    """
    if stored.ndim != 2 or stored.dtype.kind not in "iu":
        inverted = stored.ndim == 2 and _inverted(dataset)
        return (-to_native_dtype(stored, path) if inverted else stored), None, ()
    masked = _within_bits(stored, dataset)
    valid = _valid(stored, masked, dataset)
    if valid is not None and not valid.any():
        raise InputError(f"{path}: all pixels are padding; export the film again")
    pixels, bits = masked, int(dataset.BitsStored)
    notes: tuple[str, ...] = ()
    if _header_states_too_few_bits(stored, masked, valid):
        pixels, bits = stored, 8 * stored.dtype.itemsize
        notes = (
            f"its pixels use more than the {dataset.BitsStored} bits of BitsStored, which was not applied",
        )
    rescaled = _modality(pixels, dataset, path)
    if rescaled is not pixels:
        pixels, bits = rescaled, 8 * rescaled.dtype.itemsize
    pixels = to_native_dtype(pixels, path)
    if _inverted(dataset):
        pixels = -pixels if pixels.dtype == np.float32 else pixels.dtype.type(2**bits - 1) - pixels
    if valid is not None:
        pixels = np.where(valid, pixels, pixels[valid].min())
    return pixels, valid, notes


def _within_bits(stored: np.ndarray, dataset: Any) -> np.ndarray:
    """Return integers without the bits above BitsStored, which may contain an overlay; the sign is preserved."""
    unused = 8 * stored.dtype.itemsize - int(dataset.get("BitsStored") or 8 * stored.dtype.itemsize)
    if stored.dtype.kind not in "iu" or unused <= 0:
        return stored
    dtype = stored.dtype.newbyteorder("=")
    masked: np.ndarray = (stored.astype(dtype) << dtype.type(unused)) >> dtype.type(unused)
    return masked


def _header_states_too_few_bits(stored: np.ndarray, masked: np.ndarray, valid: np.ndarray | None) -> bool:
    """Return whether the bits above BitsStored belong to the image, which then has larger steps without them.

    An overlay in these bits has steps of its own, and the image is smoother without it.
    """
    if stored is masked or np.array_equal(stored, masked):
        return False

    def steps(array: np.ndarray) -> float:
        values = array.astype(np.float64) if valid is None else np.where(valid, array, 0).astype(np.float64)
        return float(np.abs(np.diff(values, axis=0)).mean() + np.abs(np.diff(values, axis=1)).mean())

    return steps(stored) < steps(masked)


def _valid(stored: np.ndarray, masked: np.ndarray, dataset: Any) -> np.ndarray | None:
    """Return bool[H, W], False where a pixel is in the range of padding; None if no pixel is."""
    value = _integer(dataset, "PixelPaddingValue")
    if value is None:
        return None
    limit = _integer(dataset, "PixelPaddingRangeLimit")
    # The field may be unsigned for signed pixels, and vice versa.
    ends = np.array([value, value if limit is None else limit]).astype(stored.dtype.newbyteorder("="))
    low, high = ends.min(), ends.max()
    padding = (stored >= low) & (stored <= high) | (masked >= low) & (masked <= high)
    return np.asarray(~padding) if padding.any() else None


def _integer(dataset: Any, name: str) -> int | None:
    try:
        value = dataset.get(name)
        return None if value is None else int(value)
    except (TypeError, ValueError):
        return None


def _modality(pixels: np.ndarray, dataset: Any, path: Path) -> np.ndarray:
    """Apply the Modality LUT or rescaling by pydicom; the identity returns the same array."""
    from pydicom.pixels.processing import apply_modality_lut

    if dataset.get("ModalityLUTSequence"):
        item = dataset.ModalityLUTSequence[0]
        entries, first, depth = item.LUTDescriptor
        if depth not in (8, 16):  # pydicom interprets the depth as a number type
            item.LUTDescriptor = [entries, first, 16]
        return apply_modality_lut(pixels, dataset)
    try:
        slope, intercept = (
            float(default if (value := dataset.get(name)) in (None, "") else value)
            for name, default in (("RescaleSlope", 1), ("RescaleIntercept", 0))
        )
    except (TypeError, ValueError) as error:
        raise InputError(
            f"{path}: RescaleSlope or RescaleIntercept is not a number; export it again"
        ) from error
    if not np.isfinite([slope, intercept]).all() or slope == 0:
        raise InputError(f"{path}: RescaleSlope {slope:g}, RescaleIntercept {intercept:g}; export it again")
    if (slope, intercept) == (1, 0):
        return pixels
    dataset.RescaleSlope, dataset.RescaleIntercept = slope, intercept  # pydicom ignores one without the other
    return apply_modality_lut(pixels, dataset)


def _inverted(dataset: Any) -> bool:
    """Return whether a large value is dark after the Modality LUT."""
    shape = str(dataset.get("PresentationLUTShape") or "").strip().upper()
    monochrome1 = str(dataset.get("PhotometricInterpretation") or "").strip() == "MONOCHROME1"
    voi, presentation = (
        _is_decreasing(dataset.get(name)) for name in ("VOILUTSequence", "PresentationLUTSequence")
    )
    return (monochrome1 or shape == "INVERSE") ^ voi ^ presentation


def _is_decreasing(sequence: Any) -> bool:
    """Return whether the last value of a sequence's first LUT is lower than the first."""
    if not sequence:
        return False
    data = sequence[0].get("LUTData")
    values = np.frombuffer(data, "<u2") if isinstance(data, bytes) else np.atleast_1d(np.array(data, float))
    return len(values) > 1 and float(values[-1]) < float(values[0])
