"""What the decoding of a case's files shows beside its arrays: spacing, odd headers, interpolated labels."""

import hashlib
import json
import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from kneefair_jax.data import mask_checks

# Two statements of one spacing disagree beyond this factor: the magnification of a bone before the detector is smaller.
DISAGREE = 1.5


class Inspection(NamedTuple):
    """What the files of one case show. It is recorded when they are decoded, so that nothing decodes them again.

    Attributes:
        spacing_kind: `table`, or of `readers.Radiograph`; "" where the source does not say.
        notes: what is odd about the headers of film and mask.
        interpolated: whether the mask has interpolated labels, by `mask_checks.interpolated_rims`.
        mask_sha256: hex digits, of the labels; "" of a mask without a structure.
        void_pixels: how many pixels of the mask's file are void.
    """

    spacing_kind: str = ""
    notes: tuple[str, ...] = ()
    interpolated: bool = False
    mask_sha256: str = ""
    void_pixels: int = 0


def of_mask(
    label: np.ndarray,
    spacing_kind: str = "",
    notes: Sequence[str] = (),
    *,
    values: np.ndarray | None = None,
    void: int = -1,
) -> Inspection:
    """Inspect a mask.

    Args:
        label: u8[H, W], at the file's own size, 0 where no structure is.
        spacing_kind: see `Inspection`.
        notes: see `Inspection`.
        values: integers [H, W], the mask as the file holds it, where its values are not the labels or it shows more
            than the case: interpolation mixes the file's values.
        void: the value of void pixels in `values`; -1 for none.
    """
    values = label if values is None else values
    is_void = values == void
    void_pixels = int(np.count_nonzero(is_void))
    bones = np.where(is_void, 0, values) if void_pixels else values
    interpolated = mask_checks.interpolated_rims(bones).interpolated
    return Inspection(spacing_kind, tuple(notes), interpolated, _sha256(label), void_pixels)


def spacing_notes(film: np.ndarray, mask: np.ndarray, table: np.ndarray) -> list[str]:
    """Return notes on spacings of one case that differ by more than a factor of 1.5.

    Args:
        film: f32[2], mm per pixel down and across by the film's header; NaN where it states none.
        mask: the same by the mask's header, laid out as the film.
        table: the same by the table, which has precedence.
    """
    pairs = [
        ("the mask's header", mask, "the film's header", film),
        ("the table", table, "the film's header", film),
        ("the table", table, "the mask's header", mask),
    ]
    return [
        f"the pixel spacing by {one}, {_text(first)} mm, and by {other}, {_text(second)} mm, disagree"
        for one, first, other, second in pairs
        if np.abs(np.log(np.asarray(first, float) / second)).max() > math.log(DISAGREE)
    ]


def encode(inspection: Inspection | None) -> str:
    """Return the inspection as text, for the files of a store; "" for None."""
    return json.dumps(inspection) if inspection is not None else ""


def decode(text: str) -> Inspection | None:
    """Invert `encode`."""
    if not text:
        return None
    kind, notes, interpolated, sha256, void_pixels = json.loads(text)
    return Inspection(str(kind), tuple(map(str, notes)), bool(interpolated), str(sha256), int(void_pixels))


def _sha256(label: np.ndarray) -> str:
    if not label.any():
        return ""
    return hashlib.sha256(str(label.shape).encode() + label.astype(np.uint8).tobytes()).hexdigest()


def _text(spacing: np.ndarray) -> str:
    return " x ".join(f"{value:.4g}" for value in spacing)
