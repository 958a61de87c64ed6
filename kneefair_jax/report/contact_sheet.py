"""Some cases of each group on one sheet, their masks as lines: what a person looks at before training."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from kneefair_jax.report.overlays import picture
from kneefair_jax.runtime import atomic

_TILE = 192
_GAP = 6
_CAPTION = 26


class Tile(NamedTuple):
    """A case: its id, image u8[H, W] or u8[H, W, C], label u8[H, W] as a line, and a prediction u8[H, W] as a tint."""

    case_id: str
    image: np.ndarray
    label: np.ndarray
    prediction: np.ndarray | None = None


def sheet(strips: Sequence[tuple[str, Sequence[Tile]]]) -> Image.Image:
    """A strip for each (caption, cases), one below the other."""
    columns = max(len(tiles) for _, tiles in strips)
    pictures = [[Image.fromarray(_drawn(tile)) for tile in tiles] for _, tiles in strips]
    height = max(one.height for strip in pictures for one in strip)
    width = max(one.width for strip in pictures for one in strip)
    step = height + _CAPTION + 2 * _GAP
    page = Image.new("RGB", (columns * (width + _GAP) + _GAP, len(strips) * step + _GAP), "white")
    pen = ImageDraw.Draw(page)
    caption, small = ImageFont.load_default(size=16), ImageFont.load_default(size=11)
    for row, ((name, tiles), strip) in enumerate(zip(strips, pictures, strict=True)):
        top = _GAP + row * step
        pen.text((_GAP, top + 2), name, fill="black", font=caption)
        for column, (tile, one) in enumerate(zip(tiles, strip, strict=True)):
            left = _GAP + column * (width + _GAP)
            page.paste(one, (left, top + _CAPTION))
            place = (left + 4, top + _CAPTION + one.height - 16)
            pen.text(place, tile.case_id[:28], fill="white", font=small, stroke_width=2, stroke_fill="black")
    return page


def write(path: Path, strips: Sequence[tuple[str, Sequence[Tile]]]) -> None:
    """Writes `sheet` as a PNG file."""
    with atomic.replacement(path) as temporary:
        sheet(strips).save(temporary, format="PNG", optimize=True)


def _drawn(tile: Tile) -> np.ndarray:
    grey = tile.image if tile.image.ndim == 2 else tile.image.mean(axis=2).astype(np.uint8)
    tint = np.zeros_like(tile.label) if tile.prediction is None else tile.prediction
    return picture(grey, tile.label, tint, _TILE)
