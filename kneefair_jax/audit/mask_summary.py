"""What an audit keeps of a mask when its pixels are gone: counts, faults, a digest and a thumbnail."""

import hashlib
from pathlib import Path
from typing import NamedTuple

import numpy as np

from kneefair_jax.audit import mask_faults
from kneefair_jax.audit.label_map import Checked
from kneefair_jax.audit.mask_faults import Fault
from kneefair_jax.data.mask_files import Mask

THUMBNAIL = 32  # pixels a side, whatever the size of the mask


class Summary(NamedTuple):
    """One mask.

    Attributes:
        shape: rows and columns.
        pixels: of all structures, ignored ones left out.
        spacing: f32[2], mm per pixel as the header states it, on the reference's grid; NaN where it does not.
        spacing_kind: of `readers.Radiograph`.
        notes: what is odd about the header.
        faults: of `mask_faults.of_mask`.
        digest: SHA-256 of shape and labels.
        thumbnail: u8[32, 32], labels of the pixels on a regular grid.
        ignored: bool[32, 32], which of these pixels are ignored.
        palette: of `mask_files.Mask`.
    """

    shape: tuple[int, ...]
    pixels: int
    spacing: np.ndarray
    spacing_kind: str
    notes: tuple[str, ...]
    faults: list[Fault]
    digest: bytes
    thumbnail: np.ndarray
    ignored: np.ndarray
    palette: tuple[Path, np.ndarray] | None


def of(mask: Mask, label: np.ndarray, ignored: np.ndarray, labels: Checked) -> Summary:
    """Summarize a mask.

    Args:
        mask: as read.
        label: u8[H, W], its structures.
        ignored: bool[H, W], the pixels that are left out of every score, and of the search for faults.
        labels: the label map of such masks.
    """
    return Summary(
        label.shape,
        int(np.count_nonzero(label[~ignored])),
        mask.spacing,
        mask.spacing_kind,
        mask.notes,
        mask_faults.of_mask(mask.values, labels, ignored),
        digest(label),
        thumbnail(label),
        thumbnail(ignored),
        mask.palette,
    )


def digest(*labels: np.ndarray) -> bytes:
    """SHA-256 of label maps of one shape, u8[H, W], and of the shape."""
    parts = [repr(labels[0].shape).encode(), *(label.tobytes() for label in labels)]
    return hashlib.sha256(b"".join(parts)).digest()


def thumbnail(label: np.ndarray) -> np.ndarray:
    """[32, 32], the pixels nearest to the centers of 32 x 32 equal parts."""
    rows, columns = ((np.arange(THUMBNAIL) + 0.5) * side / THUMBNAIL for side in label.shape)
    return label[np.ix_(rows.astype(int), columns.astype(int))]
