"""Draw measurements on a radiograph: the contours of its mask, and lines with their values."""

from collections.abc import Mapping

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from kneefair_jax.measurements import MEASUREMENTS, Measurement
from kneefair_jax.report import overlays

SIZE = 1024  # pixels of the longer side
# The measurements that are drawn, with the colors of their lines.
DRAWN = {
    "jsw_min_medial": (255, 221, 0),
    "jsw_min_lateral": (255, 221, 0),
    "fta": (0, 229, 255),
    "jlca": (255, 128, 0),
    "bicondylar_width": (180, 255, 120),
    "plateau_width": (180, 255, 120),
}
_WIDTH = 2


def draw(
    image: np.ndarray,
    label: np.ndarray,
    results: Mapping[str, Mapping[str, Measurement]],
    spacing: tuple[float, float],
) -> np.ndarray:
    """Draw the measurements of a film.

    Args:
        image: u8[H, W] or u8[H, W, 1].
        label: u8[H, W], whose structures are drawn as outlines.
        results: knee, or "", -> its measurements.
        spacing: of a pixel down and across, in the unit of the lines.

    Returns:
        u8[h, w, 3], at most `SIZE` pixels a side.
    """
    pixels = overlays.picture(image, label, np.zeros_like(label), SIZE)
    return add_lines(pixels, results, spacing, pixels.shape[1] / image.shape[1])


def add_lines(
    picture: np.ndarray,
    results: Mapping[str, Mapping[str, Measurement]],
    spacing: tuple[float, float],
    scale: float,
) -> np.ndarray:
    """Return a picture of a film, u8[h, w, 3], with the lines of measurements and their values.

    Args:
        picture: u8[h, w, 3].
        results: knee, or "", -> its measurements.
        spacing: of a pixel of the film down and across, in the unit of the lines.
        scale: pixels of the picture per pixel of the film.
    """
    canvas = Image.fromarray(picture)
    pen, font = ImageDraw.Draw(canvas), ImageFont.load_default(size=18)
    row = 0
    for knee, result in results.items():
        for name, color in DRAWN.items():
            measurement = result[name]
            for line in measurement.lines:
                ends = line / np.array(spacing[::-1]) * scale
                pen.line([tuple(end) for end in ends.tolist()], fill=color, width=_WIDTH)
            value = f"{measurement.value:.1f} {MEASUREMENTS[name].unit}"
            text = f"{knee} {name}: {'not measured' if measurement.reason else value}".strip()
            pen.text((8, 8 + 22 * row), text, fill=color, font=font, stroke_width=2, stroke_fill="black")
            row += 1
    return np.asarray(canvas)
