"""Choose the cases that a report shows, and draw a case: the radiograph, the reference mask, the prediction.

The reference mask is a line and the prediction a tint. `sheet` draws many cases as one picture, for a look before
training.
"""

import base64
import io
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from PIL import Image, ImageDraw, ImageFont

from kneefair_jax import anatomy, groups
from kneefair_jax.fairness import patient_table
from kneefair_jax.runtime import atomic

SIZE = 256
_LINE = 2  # pixels of the finished picture
_TINT = 0.3
_TILE = 192  # pixels of a tile of a contact sheet
_GAP = 6
_CAPTION = 26
ALL = "all"  # the group of all cases
WORST = 6  # cases


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


class Choice(NamedTuple):
    """A case to show: its id, its group, its rank in the group, and its macro Dice."""

    case_id: str
    group: str
    rank: str
    score: float


class Tile(NamedTuple):
    """A case: its id, image u8[H, W] or u8[H, W, C], label u8[H, W] as a line, and a prediction u8[H, W] as a tint."""

    case_id: str
    image: np.ndarray
    label: np.ndarray
    prediction: np.ndarray | None = None


def choose(
    table: pd.DataFrame,
    attributes: Sequence[str],
    worst: int = WORST,
    failure_dice: float = patient_table.FAILURE_DICE,
) -> list[Choice]:
    """Choose the worst cases of all, then the best, median and worst case of each level of each attribute.

    Args:
        table: the long per-case table: `case_id, structure, dice` and the categorical attributes; cases without any
            score are excluded.
        attributes: columns to group by.
        worst: the number of worst cases of all, in ascending order of score.
        failure_dice: `failure_dice` of `patient_table.macro`.

    Returns:
        The worst cases of all have the group `all` and the ranks `1`, `2`, ... A level of two cases has no median; the
        case of a level with a single one has the rank `only`.
    """
    macro = patient_table.macro(table, "dice", failure_dice).dropna()
    cases = table.drop_duplicates("case_id").set_index("case_id").loc[macro.index]
    worst_scores = macro.sort_values(kind="stable").head(worst)
    choices = [
        Choice(str(case), ALL, str(rank), float(score))
        for rank, (case, score) in enumerate(worst_scores.items(), 1)
    ]
    for attribute in attributes:
        partition = groups.partition(cases, [attribute], missing_as_level=True)
        for g, name in enumerate(partition.names):
            ranked = macro[partition.index == g].sort_values(kind="stable", ascending=False)
            positions = {"best": 0, "median": len(ranked) // 2, "worst": len(ranked) - 1}
            if len(ranked) < len(positions):
                positions = {"only": 0} if len(ranked) == 1 else {"best": 0, "worst": 1}
            choices += [
                Choice(str(ranked.index[position]), name, rank, float(ranked.iloc[position]))
                for rank, position in positions.items()
            ]
    return choices


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
    pixels: np.ndarray = _tints(_present(tint))[tint, grey]
    for value in _present(truth):
        if value:
            pixels[_outline(truth == value)] = color(value)
    for value, mask in lines:
        resized = Image.fromarray(mask.astype(np.uint8)).resize(shape, Image.Resampling.NEAREST)
        pixels[_outline(np.asarray(resized) > 0)] = color(value)
    return pixels


def sheet(strips: Sequence[tuple[str, Sequence[Tile]]]) -> Image.Image:
    """Draw a strip for each (caption, cases), one below the other."""
    columns = max(len(tiles) for _, tiles in strips)
    pictures = [[Image.fromarray(_tile_picture(tile)) for tile in tiles] for _, tiles in strips]
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


def write_sheet(path: Path, strips: Sequence[tuple[str, Sequence[Tile]]]) -> None:
    """Write `sheet` as a PNG file."""
    with atomic.replacement(path) as temporary:
        sheet(strips).save(temporary, format="PNG", optimize=True)


def _tile_picture(tile: Tile) -> np.ndarray:
    grey = tile.image if tile.image.ndim == 2 else tile.image.mean(axis=2).astype(np.uint8)
    tint = np.zeros_like(tile.label) if tile.prediction is None else tile.prediction
    return picture(grey, tile.label, tint, _TILE)


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
    outline: np.ndarray = mask & ~inner
    return outline
