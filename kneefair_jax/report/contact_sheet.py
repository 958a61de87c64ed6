"""Draw cases of each group on one sheet, their masks as lines, for a look before training."""

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
    """Draw a strip for each (caption, cases), one below the other."""
    columns = max(len(tiles) for _, tiles in strips)
    pictures = [[Image.fromarray(_picture(tile)) for tile in tiles] for _, tiles in strips]
    height = max(image.height for strip in pictures for image in strip)
    width = max(image.width for strip in pictures for image in strip)
    step = height + _CAPTION + 2 * _GAP
    page = Image.new("RGB", (columns * (width + _GAP) + _GAP, len(strips) * step + _GAP), "white")
    pen = ImageDraw.Draw(page)
    caption_font, id_font = ImageFont.load_default(size=16), ImageFont.load_default(size=11)
    for row, ((name, tiles), strip) in enumerate(zip(strips, pictures, strict=True)):
        top = _GAP + row * step
        pen.text((_GAP, top + 2), name, fill="black", font=caption_font)
        for column, (tile, image) in enumerate(zip(tiles, strip, strict=True)):
            left = _GAP + column * (width + _GAP)
            page.paste(image, (left, top + _CAPTION))
            corner = (left + 4, top + _CAPTION + image.height - 16)
            pen.text(
                corner, tile.case_id[:28], fill="white", font=id_font, stroke_width=2, stroke_fill="black"
            )
    return page


def write(path: Path, strips: Sequence[tuple[str, Sequence[Tile]]]) -> None:
    """Write `sheet` as a PNG file."""
    with atomic.replacement(path) as temporary:
        sheet(strips).save(temporary, format="PNG", optimize=True)


def _picture(tile: Tile) -> np.ndarray:
    grey = tile.image if tile.image.ndim == 2 else tile.image.mean(axis=2).astype(np.uint8)
    tint = np.zeros_like(tile.label) if tile.prediction is None else tile.prediction
    return picture(grey, tile.label, tint, _TILE)
