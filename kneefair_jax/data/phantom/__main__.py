"""`python -m kneefair_jax.data.phantom --out gallery.png` draws phantoms by grade, by switch and strength, and wide."""

import argparse
import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from PIL import Image, ImageDraw

from kneefair_jax import anatomy
<<<<<<< HEAD
from kneefair_jax.data.phantom import cohort
from kneefair_jax.data.phantom.bias import CASE_SWITCHES, NO_BIAS, Bias
from kneefair_jax.data.phantom.case import Phantom, draw_case, draw_film
=======
from kneefair_jax.data.phantom.cohort import source
from kneefair_jax.data.source import Example
>>>>>>> store

STRENGTHS = (0.0, 0.5, 1.0)
COLUMNS = 6
CAPTION = 18  # pixels above a strip

Strip = tuple[str, list[np.ndarray]]  # a caption and u8[H, W, 3] pictures


def tinted(image: np.ndarray, label: np.ndarray, opacity: float = 0.4) -> np.ndarray:
    """u8[H, W] and its label u8[H, W] -> u8[H, W, 3] with the structures tinted."""
    grey = np.repeat(image[:, :, None], 3, axis=2).astype(np.float32)
    colour = (1 - opacity) * grey + opacity * anatomy.COLOURS[label]
    return np.where(label[:, :, None] > 0, colour, grey).astype(np.uint8)


def _outlined(image: np.ndarray, label: np.ndarray, exact: np.ndarray) -> np.ndarray:
    """The annotated mask tinted, the true contours in white."""
    edge = np.zeros(exact.shape, bool)
    edge[:-1] |= exact[:-1] != exact[1:]
    edge[:, :-1] |= exact[:, :-1] != exact[:, 1:]
    return np.where(edge[:, :, None], np.uint8(255), tinted(image, label))


def _grey(image: np.ndarray) -> np.ndarray:
    return np.repeat(image[:, :, None], 3, axis=2)


def _draw(keys: jax.Array, knees: jax.Array, bias: Bias, grades: jax.Array, size: int) -> Phantom:
    draw = functools.partial(draw_case, size=(size, size))
    drawn = jax.jit(jax.vmap(lambda k, knee, b, g: draw(k, knee, b, grade=g)))(keys, knees, bias, grades)
    return jax.device_get(drawn)


def by_grade(key: jax.Array, size: int) -> list[Strip]:
    """One patient's knee at every Kellgren-Lawrence grade, and its masks."""
    count = len(cohort.GRADES)
    keys = jnp.stack([key] * count)
    none = Bias(*(jnp.zeros(count) for _ in NO_BIAS))
    drawn = _draw(keys, jnp.zeros(count, int), none, jnp.arange(count), size)
    pictures = [_grey(image) for image in drawn.image]
    masks = [tinted(*pair) for pair in zip(drawn.image, drawn.label, strict=True)]
    title = f"Kellgren-Lawrence grade {', '.join(cohort.GRADES)} of one knee"
    return [(title, pictures), ("their masks", masks)]


def by_switch(key: jax.Array, size: int) -> list[Strip]:
    """Two patients under every switch of a case, at each strength."""
    plan = [(switch, patient, s) for switch in CASE_SWITCHES for patient in (0, 1) for s in STRENGTHS]
    keys = jax.vmap(lambda i: jax.random.fold_in(key, i))(jnp.array([patient for _, patient, _ in plan]))
    bias = Bias(*(jnp.array([s * (switch == name) for switch, _, s in plan]) for name in CASE_SWITCHES))
    knees = jnp.array([patient for _, patient, _ in plan])
    # With the grade that the switch draws: only `osteophytes` changes it.
    grades = jax.vmap(cohort.draw_grade)(keys, knees, bias)
    drawn = _draw(keys, knees, bias, grades, size)
    strips = []
    for row, switch in enumerate(CASE_SWITCHES):
        these = range(row * COLUMNS, (row + 1) * COLUMNS)
        show = [
            _outlined(drawn.image[i], drawn.label[i], drawn.exact[i])
            if switch == "annotation"
            else _grey(drawn.image[i])
            for i in these
        ]
        note = " (tint: as annotated; line: exact)" if switch == "annotation" else ""
        strips.append((f"{switch} at {', '.join(map(str, STRENGTHS))}, two patients{note}", show))
    return strips


def representation(size: int, patients: int = 60) -> Strip:
    """The training places of a cohort in which group B has a third, a dot a patient."""
    pictures = []
    for strength in STRENGTHS:
        bias = {"group=B": {"representation": strength}}
        shares = cohort.under_represented({("A",): 2 / 3, ("B",): 1 / 3}, ["group"], bias)
        counts = cohort.quotas(shares, patients)
        picture = Image.new("RGB", (size, size))
        pen = ImageDraw.Draw(picture)
        across = 10
        step = size // (across + 1)
        dots = ["A"] * counts["A",] + ["B"] * counts["B",]
        for i, group in enumerate(dots):
            x, y = step * (1 + i % across), step * (1 + i // across)
            pen.ellipse((x - 5, y - 5, x + 5, y + 5), fill=tuple(anatomy.COLOURS[1 if group == "A" else 2]))
        pen.text((4, size - 16), f"A {counts['A',]}, B {counts['B',]} of {patients}", fill="white")
        pictures.append(np.asarray(picture))
    return f"representation at {', '.join(map(str, STRENGTHS))}: training places", pictures


def others(key: jax.Array, size: int) -> list[Strip]:
    """Bilateral films, and knees at the wide ends of all ranges."""
    keys = jax.random.split(key, COLUMNS)
    films = jax.device_get(
        jax.jit(jax.vmap(functools.partial(draw_film, size=(size, size), fov_mm=340.0)))(keys[:3])
    )
    pairs = [
        picture
        for f in range(3)
        for picture in (_grey(films.image[f]), tinted(films.image[f], films.label[f]))
    ]

    def draw(key: jax.Array, fov: jax.Array) -> Phantom:
        return draw_case(key, size=(size, size), fov_mm=fov, width=1.0)

    fov = jnp.array([95.0, 120.0, 150.0, 190.0, 260.0, 360.0])
    wide = jax.device_get(jax.jit(jax.vmap(draw))(keys, fov))
    return [
        ("both knees on one film", pairs),
        ("domain randomisation, 95 to 360 mm", [_grey(image) for image in wide.image]),
        ("their masks", [tinted(*pair) for pair in zip(wide.image, wide.label, strict=True)]),
    ]


def page(strips: Sequence[Strip], size: int) -> Image.Image:
    """Strips below each other, each under its caption."""
    sheet = Image.new("RGB", (COLUMNS * size, len(strips) * (size + CAPTION)))
    pen = ImageDraw.Draw(sheet)
    for row, (caption, pictures) in enumerate(strips):
        top = row * (size + CAPTION)
        pen.text((4, top + 3), caption, fill="white")
        for column, picture in enumerate(pictures):
            sheet.paste(Image.fromarray(picture), (column * size, top + CAPTION))
    return sheet


def gallery(size: int, seed: int) -> Image.Image:
<<<<<<< HEAD
    """Everything that the phantoms can show, on one sheet."""
    key = jax.random.key(seed)
    strips = [*by_grade(key, size), *by_switch(key, size), representation(size), *others(key, size)]
    return page(strips, size)
=======
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
>>>>>>> store


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
