"""`python -m kneefair_jax.data.phantom --out gallery.png` draws phantoms by group, with and without masks."""

import argparse

import numpy as np
from PIL import Image, ImageDraw

from kneefair_jax import anatomy
from kneefair_jax.data.phantom.cohort import source
from kneefair_jax.data.source import Example

COLUMNS = 4
CAPTION = 16  # pixels above each group's pictures
GROUPS = {"A": {}, "B": {"morphology": 1.0}, "C": {"contrast": 1.0}, "D": {"noise": 1.0}}


def overlay(image: np.ndarray, label: np.ndarray, opacity: float = 0.4) -> np.ndarray:
    """u8[H, W] and its label u8[H, W] -> u8[H, W, 3] with the structures tinted."""
    grey = np.repeat(image[:, :, None], 3, axis=2).astype(np.float32)
    tinted = (1 - opacity) * grey + opacity * anatomy.COLOURS[label]
    return np.where(label[:, :, None] > 0, tinted, grey).astype(np.uint8)


def gallery(size: int, seed: int) -> Image.Image:
    """A strip per group, each of another bias at full strength: pictures on the left, masks on the right."""
    config = {
        "patients": COLUMNS // 2 * len(GROUPS),
        "knees_per_patient": 2,
        "attributes": {"group": {name: 1 / len(GROUPS) for name in GROUPS}},
        "bias": {f"group={name}": switches for name, switches in GROUPS.items()},
        "fov_mm": 140.0,
    }
    phantoms = source(config, size=(size, size), seed=seed)
    read = phantoms.read(range(len(phantoms.cases)))
    examples = [example for example in read if isinstance(example, Example)]
    page = Image.new("RGB", (2 * COLUMNS * size, len(GROUPS) * (size + CAPTION)))
    pen = ImageDraw.Draw(page)
    for strip, (name, switches) in enumerate(GROUPS.items()):
        top = strip * (size + CAPTION)
        bias = ", ".join(f"{switch} {strength:g}" for switch, strength in switches.items()) or "no bias"
        pen.text((4, top + 2), f"group {name}: {bias}", fill="white")
        for column, row in enumerate(np.flatnonzero(phantoms.cases["group"] == name)):
            image, label = examples[row].image[:, :, 0], examples[row].label
            page.paste(Image.fromarray(image), (column * size, top + CAPTION))
            tinted = Image.fromarray(overlay(image, label))
            page.paste(tinted, ((COLUMNS + column) * size, top + CAPTION))
    return page


def main() -> None:
    """Writes the gallery."""
    parser = argparse.ArgumentParser(prog="python -m kneefair_jax.data.phantom", description=__doc__)
    parser.add_argument("--out", required=True, help="PNG file to write")
    parser.add_argument("--size", type=int, default=192, help="pixels along a picture's side")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    gallery(options.size, options.seed).save(options.out)


if __name__ == "__main__":
    main()
