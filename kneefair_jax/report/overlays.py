"""Draw a case as one picture: the radiograph, the reference mask as a line, the prediction as a tint."""

import base64
import io
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from PIL import Image

from kneefair_jax import anatomy

SIZE = 256
_LINE = 2  # pixels of the finished picture
_TINT = 0.3


class CaseView(NamedTuple):
    """One case as an example of its group.

    Attributes:
        case_id: as in the per-case table.
        group: the group's name, `sex=female`, or `all`.
        rank: `best`, `median`, `worst` or `only` of its group; `1`, `2`, ... from the worst of all.
        score: the case's macro Dice.
        image: u8[H,W] or u8[H,W,1].
        label: u8[H,W], the reference mask.
        prediction: u8[H,W].
    """

    case_id: str
    group: str
    rank: str
    score: float
    image: np.ndarray
    label: np.ndarray
    prediction: np.ndarray


def color(label: int) -> tuple[int, int, int]:
    """Return the color of a label above 0; labels beyond the palette start it again."""
    red, green, blue = anatomy.COLORS[1 + (label - 1) % (len(anatomy.COLORS) - 1)]
    return int(red), int(green), int(blue)


def overlay(image: np.ndarray, label: np.ndarray, prediction: np.ndarray, size: int = SIZE) -> str:
    """Return `picture` as a PNG data URI."""
    buffer = io.BytesIO()
    Image.fromarray(picture(image, label, prediction, size)).save(buffer, format="PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")


def picture(
    image: np.ndarray,
    label: np.ndarray,
    prediction: np.ndarray,
    size: int = SIZE,
    lines: Sequence[tuple[int, np.ndarray]] = (),
) -> np.ndarray:
    """Return the picture of a case, u8[h,w,3].

    Args:
        image: u8[H,W] or u8[H,W,1].
        label: u8[H,W], drawn as a solid line just inside each structure; void is not drawn.
        prediction: u8[H,W], drawn as a translucent fill.
        size: the picture's longer side.
        lines: further structures, which may overlap, drawn as lines: the label that gives the color, and the mask,
            bool[H,W].
    """
    height, width = image.shape[:2]
    scale = size / max(height, width)
    shape = (max(1, round(width * scale)), max(1, round(height * scale)))  # Pillow's order
    grey = np.asarray(Image.fromarray(image.reshape(height, width)).resize(shape, Image.Resampling.BILINEAR))
    # Labels are categories: interpolation must not turn 1 and 3 into 2.
    truth, tint = (
        np.asarray(Image.fromarray(mask.astype(np.uint8)).resize(shape, Image.Resampling.NEAREST))
        for mask in (anatomy.clear_void(label), prediction)
    )
    pixels = _tints(_present(tint))[tint, grey]
    for value in _present(truth):
        if value:
            pixels[_outline(truth == value)] = color(value)
    for value, mask in lines:
        resized = Image.fromarray(mask.astype(np.uint8)).resize(shape, Image.Resampling.NEAREST)
        pixels[_outline(np.asarray(resized) > 0)] = color(value)
    return pixels


def _present(labels: np.ndarray) -> list[int]:
    """Return the labels of u8[H, W] that occur, ascending."""
    return np.flatnonzero(np.bincount(labels.ravel(), minlength=256)).tolist()


def _tints(labels: list[int]) -> np.ndarray:
    """Return the color of a pixel by label and gray value, u8[256, 256, 3]; zero for labels that are not listed."""
    gray = np.repeat(np.arange(256, dtype=np.float32)[:, None], 3, axis=1)
    table = np.zeros((256, 256, 3), np.uint8)
    for label in labels:
        tinted = gray + _TINT * (np.array(color(label)) - gray) if label else gray
        table[label] = tinted.astype(np.float32).round()
    return table


def _outline(mask: np.ndarray) -> np.ndarray:
    """Return the outermost `_LINE` pixels of a mask, bool[H,W]; 4-connected, without the picture's edge."""
    inner = mask
    for _ in range(_LINE):
        padded = np.pad(inner, 1, mode="edge")
        inner = inner & padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
    return mask & ~inner
