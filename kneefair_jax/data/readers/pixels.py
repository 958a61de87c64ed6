"""Arrays of pixels and labels: number types, eight bits, sizes."""

from pathlib import Path

import numpy as np
from PIL import Image
from scipy.sparse import csr_array

from kneefair_jax.errors import InputError


def native(pixels: np.ndarray, path: Path) -> np.ndarray:
    """Return u8, u16 or f32 in the machine's byte order: what is neither u8 nor u16 becomes f32, bool 0 and 255.

    Raises:
        InputError: pixels are not numbers, NaN or infinite.
    """
    if pixels.dtype == bool:
        return pixels.astype(np.uint8) * np.uint8(255)
    if pixels.dtype.kind == "u" and pixels.dtype.itemsize <= 2:
        return pixels.astype(pixels.dtype.newbyteorder("="))
    if pixels.dtype.kind not in "iuf":
        raise InputError(f"{path}: holds pixels of type {pixels.dtype}; export them as numbers")
    with np.errstate(over="ignore"):
        native = pixels.astype(np.float32)
    if not np.isfinite(native).all():
        raise InputError(f"{path}: holds pixels that are NaN, infinite or beyond float32; export it again")
    return native


def to_uint8(
    image: np.ndarray, window: tuple[float, float] = (0.5, 99.5), valid: np.ndarray | None = None
) -> np.ndarray:
    """Brings an image to eight bits; one that has them is kept as it is.

    Detectors use different parts of their 10 to 16 bits, so a fixed window would make exposure a sign of the
    site. Percentiles rather than the extremes: burnt-in letters and the collimator's edge are the extremes.

    Args:
        image: u8, u16 or f32 [H, W, C].
        window: percentiles of the image that become 0 and 255; what lies outside is clipped.
        valid: bool[H, W], the pixels that are no padding; the percentiles are of these. None: all.

    Returns:
        u8[H, W, C].
    """
    if image.dtype == np.uint8:
        return image
    picture = image if valid is None else image[valid]
    low, high = np.percentile(picture, window)
    if high <= low:  # nearly all pixels are alike
        low, high = picture.min(), picture.max()
    scaled = image.astype(np.float32)  # and from here in place: it has twice the bytes of a 16-bit film
    scaled -= np.float32(low)
    scaled /= max(float(high) - float(low), 1e-12)
    np.clip(scaled, 0, 1, out=scaled)
    scaled *= 255
    return np.rint(scaled, out=scaled).astype(np.uint8)


def to_grey(image: np.ndarray) -> np.ndarray:
    """u8[H, W, 1 or 3] -> u8[H, W, 1]; of colors, their luma (ITU-R 601-2)."""
    return image if image.shape[2] == 1 else np.asarray(Image.fromarray(image).convert("L"))[..., None]


def resize_image(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Resizes u8[H, W, C] to `size` (rows, columns) by Pillow's linear filter, which widens when it reduces.

    So it does not alias; Pillow's box filter would shift edges by up to half a pixel at uneven ratios.
    """
    if image.shape[:2] == tuple(size):
        return image
    bands = [Image.fromarray(band) for band in np.moveaxis(image, 2, 0)]
    height, width = size
    resized = [band.resize((width, height), Image.Resampling.BILINEAR) for band in bands]
    return np.stack([np.asarray(band) for band in resized], axis=2)


def resize_label(label: np.ndarray, size: tuple[int, int], classes: int) -> np.ndarray:
    """Resizes labels: each new pixel takes the label that covers the largest part of it.

    Nearest-neighbour sampling would drop thin structures (a fibula, a joint space) at random.

    Args:
        label: u8[H, W] of values below `classes`.
        size: rows, columns.
        classes: number of labels, background included.

    Returns:
        u8[size]; the lower label wins a tie.
    """
    if label.shape == tuple(size):
        return label
    down, across = (_overlaps(new, old) for new, old in zip(size, label.shape, strict=True))
    areas = [(across @ (down @ (label == value).astype(np.int32)).T).T for value in range(classes)]
    return np.argmax(areas, axis=0).astype(np.uint8)


def labels_at(probabilities: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """The likeliest class of every pixel, probabilities being interpolated linearly.

    Contours are smooth so, where enlarged labels would have steps. One class is enlarged at a time: a film of 20
    million pixels times all classes would be 400 MB.

    Args:
        probabilities: f32[h, w, C].
        size: rows and columns, (H, W).

    Returns:
        u8[H, W]; the lower class wins a tie.
    """
    classes = probabilities.shape[2]
    height, width = size
    best = np.zeros(size, np.float32)
    labels = np.zeros(size, np.uint8)
    for value in range(classes):
        plane = np.ascontiguousarray(probabilities[..., value], np.float32)
        if plane.max() < 1 / classes:  # so it is the likeliest nowhere, between pixels neither
            continue
        fine = np.asarray(Image.fromarray(plane).resize((width, height), Image.Resampling.BILINEAR))
        better = fine > best
        np.maximum(best, fine, out=best)
        np.putmask(labels, better, value)
    return labels


def _overlaps(new: int, old: int) -> csr_array:
    """i32[new, old], the length that new pixel i shares with old pixel j, in 1/(new old) of the whole."""
    i, j = np.arange(new, dtype=np.int32)[:, None], np.arange(old, dtype=np.int32)
    shared = np.minimum((i + 1) * old, (j + 1) * new) - np.maximum(i * old, j * new)
    return csr_array(np.maximum(shared, 0))
