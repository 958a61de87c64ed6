"""Sheets of phantoms by grade, by switch and strength, wide and varied: `python -m kneefair_jax.data.phantom`."""

import functools
from collections.abc import Sequence
from itertools import product
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from PIL import Image, ImageDraw

from kneefair_jax import anatomy
from kneefair_jax.data.phantom import cohort, patients
from kneefair_jax.data.phantom.case import (
    CASE_SWITCHES,
    NO_BIAS,
    Bias,
    Phantom,
    draw_case,
    draw_film,
    draw_grade,
)
from kneefair_jax.errors import InputError
from kneefair_jax.runtime import atomic, command, output_folder

STRENGTHS = (0.0, 0.5, 1.0)
COLUMNS = 6
_MAX_SIZE = 512  # pixels along a picture's side; the picture of a single knee has four times as many
FIELDS_MM = (95, 120, 150, 190, 260, 360)
CAPTION = 18  # pixels above a strip

Strip = tuple[str, list[np.ndarray]]  # a caption and u8[H, W, 3] pictures


def tint(image: np.ndarray, label: np.ndarray, opacity: float = 0.4) -> np.ndarray:
    """Tint the structures of an image u8[H, W] by its label u8[H, W]; returns u8[H, W, 3]."""
    grey = np.repeat(image[:, :, None], 3, axis=2).astype(np.float32)
    color = (1 - opacity) * grey + opacity * anatomy.COLORS[label]
    return np.where(label[:, :, None] > 0, color, grey).astype(np.uint8)


def _outline(image: np.ndarray, label: np.ndarray, exact: np.ndarray) -> np.ndarray:
    """Tint the annotated mask and draw the exact contours in white."""
    edge = np.zeros(exact.shape, bool)
    edge[:-1] |= exact[:-1] != exact[1:]
    edge[:, :-1] |= exact[:, :-1] != exact[:, 1:]
    return np.where(edge[:, :, None], np.uint8(255), tint(image, label))


def _grey(image: np.ndarray) -> np.ndarray:
    return np.repeat(image[:, :, None], 3, axis=2)


# Compiles once for all pictures of single knees on plain films.
@functools.partial(jax.jit, static_argnames=("size", "varied"))
def _draw_phantom(
    key: jax.Array,
    knee: jax.Array,
    bias: Bias,
    grade: jax.Array,
    fov_mm: jax.Array,
    width: jax.Array,
    *,
    size: int,
    varied: bool,
) -> Phantom:
    shape = (size, size)
    return draw_case(key, knee, bias, size=shape, fov_mm=fov_mm, width=width, grade=grade, varied=varied)


def _draw(
    size: int,
    key: jax.Array,
    knee: int = 0,
    bias: Bias = NO_BIAS,
    grade: int | jax.Array = 0,
    fov_mm: float = 140.0,
    width: float = 0.0,
    varied: bool = False,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Draw an image, its mask and its exact mask, u8[size, size] each."""
    strengths = Bias(*map(jnp.float32, bias))
    scalars = (jnp.int32(knee), strengths, jnp.int32(grade), jnp.float32(fov_mm), jnp.float32(width))
    phantom = _draw_phantom(key, *scalars, size=size, varied=varied)
    return np.asarray(phantom.image), np.asarray(phantom.label), np.asarray(phantom.exact)


def by_grade(key: jax.Array, size: int) -> list[Strip]:
    """Draw one patient's knee at every Kellgren-Lawrence grade, and its masks."""
    knees = [_draw(size, key, grade=grade) for grade in range(len(cohort.GRADES))]
    title = f"Kellgren-Lawrence grade {', '.join(cohort.GRADES)} of one knee"
    return [
        (title, [_grey(image) for image, _, _ in knees]),
        ("their masks", [tint(image, label) for image, label, _ in knees]),
    ]


def by_switch(key: jax.Array, size: int) -> list[Strip]:
    """Draw two patients under every switch of a case, at each strength."""
    strips = []
    for switch in CASE_SWITCHES:
        pictures = []
        for patient, strength in product((0, 1), STRENGTHS):
            patient_key, bias = jax.random.fold_in(key, patient), NO_BIAS._replace(**{switch: strength})
            grade = draw_grade(patient_key, patient, bias)  # `osteophytes` changes it
            image, label, exact = _draw(size, patient_key, patient, bias, grade)
            pictures.append(_outline(image, label, exact) if switch == "annotation" else _grey(image))
        note = " (tint: as annotated; line: exact)" if switch == "annotation" else ""
        strips.append((f"{switch} at {', '.join(map(str, STRENGTHS))}, two patients{note}", pictures))
    return strips


def representation(size: int, count: int = 60) -> Strip:
    """Draw a dot for each training patient of a cohort in which a third of the patients are of group B."""
    pictures = []
    for strength in STRENGTHS:
        bias = {"group=B": {"representation": strength}}
        training = patients.under_represented({("A",): 2 / 3, ("B",): 1 / 3}, ["group"], bias)
        counts = patients.quotas(training, count)
        picture = Image.new("RGB", (size, size))
        pen = ImageDraw.Draw(picture)
        columns = 10
        step = size // (columns + 1)
        dots = ["A"] * counts["A",] + ["B"] * counts["B",]
        for i, group in enumerate(dots):
            x, y = step * (1 + i % columns), step * (1 + i // columns)
            pen.ellipse((x - 5, y - 5, x + 5, y + 5), fill=tuple(anatomy.COLORS[1 if group == "A" else 2]))
        pen.text((4, size - 16), f"A {counts['A',]}, B {counts['B',]} of {count}", fill="white")
        pictures.append(np.asarray(picture))
    return f"representation at {', '.join(map(str, STRENGTHS))}: training places", pictures


def variants(key: jax.Array, size: int) -> list[Strip]:
    """Draw bilateral films, and knees at the wide ends of all ranges on plain and on varied films."""
    film = jax.jit(functools.partial(draw_film, size=(size, size), fov_mm=340.0))
    pairs = []
    for i in range(COLUMNS // 2):
        phantom = jax.device_get(film(jax.random.fold_in(key, i)))
        pairs += [_grey(phantom.image), tint(phantom.image, phantom.label)]
    plain_films, varied_films = (
        [
            _draw(size, jax.random.fold_in(key, i), grade=i % 5, fov_mm=fov, width=1.0, varied=varied)
            for i, fov in enumerate(FIELDS_MM)
        ]
        for varied in (False, True)
    )
    return [
        ("both knees on one film", pairs),
        (
            f"domain randomisation, {FIELDS_MM[0]} to {FIELDS_MM[-1]} mm",
            [_grey(image) for image, _, _ in plain_films],
        ),
        ("their masks", [tint(image, label) for image, label, _ in plain_films]),
        ("the same knees on varied films", [_grey(image) for image, _, _ in varied_films]),
        ("their masks", [tint(image, label) for image, label, _ in varied_films]),
    ]


def page(strips: Sequence[Strip], size: int) -> Image.Image:
    """Stack strips, each under its caption."""
    sheet = Image.new("RGB", (COLUMNS * size, len(strips) * (size + CAPTION)))
    pen = ImageDraw.Draw(sheet)
    for row, (caption, pictures) in enumerate(strips):
        top = row * (size + CAPTION)
        pen.text((4, top + 3), caption, fill="white")
        for column, picture in enumerate(pictures):
            sheet.paste(Image.fromarray(picture), (column * size, top + CAPTION))
    return sheet


def gallery(size: int, seed: int) -> Image.Image:
    """Draw all variations of the phantoms on one sheet."""
    key = jax.random.key(seed)
    strips = [*by_grade(key, size), *by_switch(key, size), representation(size), *variants(key, size)]
    return page(strips, size)


def main(argv: Sequence[str]) -> int:
    """Write the gallery, one knee, or both."""
    parser = command.Parser(
        prog="python -m kneefair_jax.data.phantom",
        description="Draw phantoms by grade, by switch and strength, and wide.",
    )
    parser.add_argument("--out", help="PNG file of the gallery")
    parser.add_argument("--knee", help="PNG file of one knee alone, of 4 x --size pixels a side")
    parser.add_argument(
        "--size", type=command.integer(16, _MAX_SIZE), default=192, help="pixels along a picture's side"
    )
    parser.add_argument("--seed", type=command.integer(0, command.SEED.high), default=0)
    options = parser.parse_args(argv)
    if not (options.out or options.knee):
        parser.error("give --out, --knee or both")
    for path in filter(None, (options.knee, options.out)):
        if Path(path).suffix.lower() != ".png":
            raise InputError(f"{path}: give a file that ends in .png")
        output_folder.require_writable(Path(path).parent, path)
        atomic.require_regular(Path(path))
    if options.knee:
        image, _, _ = _draw(4 * options.size, jax.random.key(options.seed))
        _save(Image.fromarray(image), Path(options.knee))
    if options.out:
        _save(gallery(options.size, options.seed), Path(options.out))
    return 0


def _save(picture: Image.Image, path: Path) -> None:
    output_folder.create(path.parent, str(path))
    with atomic.replacement(path) as temporary:
        picture.save(temporary)
