"""DICOM's stored values -> values in which bone is bright, at full depth, without padding.

The order is the standard's (PS3.4 N.2): padding, Modality LUT, VOI LUT, polarity. A VOI window or LUT is a site's
proposal for the display and clips values, so only its direction is used: a decreasing LUT inverts the film.
MONOCHROME1 and PresentationLUTShape INVERSE state the same inversion, so both together invert once (PS3.3, General
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
    masked = within_bits(stored, dataset)
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


def within_bits(stored: np.ndarray, dataset: Any) -> np.ndarray:
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
