"""DICOM's stored values -> values in which bone is bright, at full depth, without padding.

The order is the standard's (PS3.4 N.2): padding, Modality LUT, VOI LUT, polarity. A VOI window or LUT is a proposal for
the display that differs by site and clips, so only its direction is used: a LUT that falls inverts the film.
MONOCHROME1 and PresentationLUTShape INVERSE state the same one inversion, so both together invert once (PS3.3, General
Image module: INVERSE "shall be used if Photometric Interpretation is MONOCHROME1").
"""

from pathlib import Path
from typing import Any

import numpy as np

from kneefair_jax.data.readers.pixels import to_native_dtype
from kneefair_jax.errors import InputError


def bright(
    stored: np.ndarray, dataset: Any, path: Path
) -> tuple[np.ndarray, np.ndarray | None, tuple[str, ...]]:
    """Return pixels in which bone is bright, which of them are no padding (None: all), and notes.

    Args:
        stored: [H, W] as pydicom decodes it, unused bits included, or [H, W, 3].
        dataset: the header.
        path: the file, for the message.

    Raises:
        InputError: all pixels are padding, or a field is not usable.
    """
    if stored.ndim != 2 or stored.dtype.kind not in "iu":
        inverted = stored.ndim == 2 and _inverted(dataset)
        return (-to_native_dtype(stored, path) if inverted else stored), None, ()
    within = within_bits(stored, dataset)
    valid = _valid(stored, within, dataset)
    if valid is not None and not valid.any():
        raise InputError(f"{path}: all pixels are padding; export the film again")
    pixels, bits = within, int(dataset.BitsStored)
    notes: tuple[str, ...] = ()
    if _header_states_too_few_bits(stored, within, valid):
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


def within_bits(stored: np.ndarray, dataset: Any) -> np.ndarray:
    """Return integers without the bits above BitsStored, which may hold an overlay; signed ones keep their sign."""
    unused = 8 * stored.dtype.itemsize - int(dataset.get("BitsStored") or 8 * stored.dtype.itemsize)
    if stored.dtype.kind not in "iu" or unused <= 0:
        return stored
    dtype = stored.dtype.newbyteorder("=")
    return (stored.astype(dtype) << dtype.type(unused)) >> dtype.type(unused)


def _header_states_too_few_bits(stored: np.ndarray, within: np.ndarray, valid: np.ndarray | None) -> bool:
    """Whether the bits above BitsStored continue the picture: without them, it has larger steps than with them.

    An overlay in these bits has steps of its own, so that the picture is smoother without it.
    """
    if stored is within or np.array_equal(stored, within):
        return False

    def steps(array: np.ndarray) -> float:
        values = array.astype(np.float64) if valid is None else np.where(valid, array, 0).astype(np.float64)
        return float(np.abs(np.diff(values, axis=0)).mean() + np.abs(np.diff(values, axis=1)).mean())

    return steps(stored) < steps(within)


def _valid(stored: np.ndarray, within: np.ndarray, dataset: Any) -> np.ndarray | None:
    """bool[H, W], False where a pixel is in the range of padding; None where there is none."""
    value = _integer(dataset, "PixelPaddingValue")
    if value is None:
        return None
    limit = _integer(dataset, "PixelPaddingRangeLimit")
    # The field may be written as unsigned though the pixels are signed, and the other way round.
    ends = np.array([value, value if limit is None else limit]).astype(stored.dtype.newbyteorder("="))
    low, high = ends.min(), ends.max()
    padding = (stored >= low) & (stored <= high) | (within >= low) & (within <= high)
    return ~padding if padding.any() else None


def _integer(dataset: Any, name: str) -> int | None:
    try:
        value = dataset.get(name)
        return None if value is None else int(value)
    except (TypeError, ValueError):
        return None


def _modality(pixels: np.ndarray, dataset: Any, path: Path) -> np.ndarray:
    """The Modality LUT or rescaling, by pydicom; the same array where that is the identity."""
    from pydicom.pixels import apply_modality_lut

    if dataset.get("ModalityLUTSequence"):
        item = dataset.ModalityLUTSequence[0]
        entries, first, depth = item.LUTDescriptor
        if depth not in (8, 16):  # pydicom takes the depth for a number type
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
    dataset.RescaleSlope, dataset.RescaleIntercept = slope, intercept  # either alone does nothing in pydicom
    return apply_modality_lut(pixels, dataset)


def _inverted(dataset: Any) -> bool:
    """Whether a large value is dark after the Modality LUT."""
    shape = str(dataset.get("PresentationLUTShape") or "").strip().upper()
    monochrome1 = str(dataset.get("PhotometricInterpretation") or "").strip() == "MONOCHROME1"
    falls = [_falls(dataset.get(name)) for name in ("VOILUTSequence", "PresentationLUTSequence")]
    return (monochrome1 or shape == "INVERSE") ^ falls[0] ^ falls[1]


def _falls(sequence: Any) -> bool:
    """Whether the first LUT of a sequence ends lower than it begins."""
    if not sequence:
        return False
    data = sequence[0].get("LUTData")
    values = np.frombuffer(data, "<u2") if isinstance(data, bytes) else np.atleast_1d(np.array(data, float))
    return len(values) > 1 and float(values[-1]) < float(values[0])
