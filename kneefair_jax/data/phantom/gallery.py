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
from kneefair_jax.data.phantom import cohort, shares
from kneefair_jax.data.phantom.bias import CASE_SWITCHES, NO_BIAS, Bias
from kneefair_jax.data.phantom.case import Phantom, draw_case, draw_film, draw_grade
from kneefair_jax.errors import InputError
from kneefair_jax.runtime import atomic, command_line, output_folder

STRENGTHS = (0.0, 0.5, 1.0)
COLUMNS = 6
_MAX_SIZE = 512  # of a picture's side; a knee alone has four times as many
FIELDS_MM = (95, 120, 150, 190, 260, 360)
CAPTION = 18  # pixels above a strip

Strip = tuple[str, list[np.ndarray]]  # a caption and u8[H, W, 3] pictures


def tinted(image: np.ndarray, label: np.ndarray, opacity: float = 0.4) -> np.ndarray:
    """u8[H, W] and its label u8[H, W] -> u8[H, W, 3] with the structures tinted."""
    grey = np.repeat(image[:, :, None], 3, axis=2).astype(np.float32)
    colour = (1 - opacity) * grey + opacity * anatomy.COLORS[label]
    return np.where(label[:, :, None] > 0, colour, grey).astype(np.uint8)


def _outlined(image: np.ndarray, label: np.ndarray, exact: np.ndarray) -> np.ndarray:
    """The annotated mask tinted, the true contours in white."""
    edge = np.zeros(exact.shape, bool)
    edge[:-1] |= exact[:-1] != exact[1:]
    edge[:, :-1] |= exact[:, :-1] != exact[:, 1:]
    return np.where(edge[:, :, None], np.uint8(255), tinted(image, label))


def _grey(image: np.ndarray) -> np.ndarray:
    return np.repeat(image[:, :, None], 3, axis=2)


# One compilation for every picture of one knee on a plain film.
@functools.partial(jax.jit, static_argnames=("size", "varied"))
def _compiled(
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
    """Image, mask and exact mask, u8[size, size] each."""
    strengths = Bias(*map(jnp.float32, bias))
    scalars = (jnp.int32(knee), strengths, jnp.int32(grade), jnp.float32(fov_mm), jnp.float32(width))
    drawn = _compiled(key, *scalars, size=size, varied=varied)
    return np.asarray(drawn.image), np.asarray(drawn.label), np.asarray(drawn.exact)


def by_grade(key: jax.Array, size: int) -> list[Strip]:
    """One patient's knee at every Kellgren-Lawrence grade, and its masks."""
    drawn = [_draw(size, key, grade=grade) for grade in range(len(cohort.GRADES))]
    title = f"Kellgren-Lawrence grade {', '.join(cohort.GRADES)} of one knee"
    return [
        (title, [_grey(image) for image, _, _ in drawn]),
        ("their masks", [tinted(image, label) for image, label, _ in drawn]),
    ]


def by_switch(key: jax.Array, size: int) -> list[Strip]:
    """Two patients under every switch of a case, at each strength."""
    strips = []
    for switch in CASE_SWITCHES:
        pictures = []
        for patient, strength in product((0, 1), STRENGTHS):
            own, bias = jax.random.fold_in(key, patient), NO_BIAS._replace(**{switch: strength})
            # The grade that the switch draws: only `osteophytes` changes it.
            grade = draw_grade(own, patient, bias)
            image, label, exact = _draw(size, own, patient, bias, grade)
            pictures.append(_outlined(image, label, exact) if switch == "annotation" else _grey(image))
        note = " (tint: as annotated; line: exact)" if switch == "annotation" else ""
        strips.append((f"{switch} at {', '.join(map(str, STRENGTHS))}, two patients{note}", pictures))
    return strips


def representation(size: int, patients: int = 60) -> Strip:
    """The training places of a cohort in which group B has a third, a dot a patient."""
    pictures = []
    for strength in STRENGTHS:
        bias = {"group=B": {"representation": strength}}
        training = shares.under_represented({("A",): 2 / 3, ("B",): 1 / 3}, ["group"], bias)
        counts = shares.quotas(training, patients)
        picture = Image.new("RGB", (size, size))
        pen = ImageDraw.Draw(picture)
        across = 10
        step = size // (across + 1)
        dots = ["A"] * counts["A",] + ["B"] * counts["B",]
        for i, group in enumerate(dots):
            x, y = step * (1 + i % across), step * (1 + i // across)
            pen.ellipse((x - 5, y - 5, x + 5, y + 5), fill=tuple(anatomy.COLORS[1 if group == "A" else 2]))
        pen.text((4, size - 16), f"A {counts['A',]}, B {counts['B',]} of {patients}", fill="white")
        pictures.append(np.asarray(picture))
    return f"representation at {', '.join(map(str, STRENGTHS))}: training places", pictures


def others(key: jax.Array, size: int) -> list[Strip]:
    """Bilateral films, and knees at the wide ends of all ranges, on plain and on varied films."""
    film = jax.jit(functools.partial(draw_film, size=(size, size), fov_mm=340.0))
    pairs = []
    for i in range(COLUMNS // 2):
        drawn = jax.device_get(film(jax.random.fold_in(key, i)))
        pairs += [_grey(drawn.image), tinted(drawn.image, drawn.label)]
    wide, varied = (
        [
            _draw(size, jax.random.fold_in(key, i), grade=i % 5, fov_mm=fov, width=1.0, varied=films)
            for i, fov in enumerate(FIELDS_MM)
        ]
        for films in (False, True)
    )
    return [
        ("both knees on one film", pairs),
        (
            f"domain randomisation, {FIELDS_MM[0]} to {FIELDS_MM[-1]} mm",
            [_grey(image) for image, _, _ in wide],
        ),
        ("their masks", [tinted(image, label) for image, label, _ in wide]),
        ("the same knees on varied films", [_grey(image) for image, _, _ in varied]),
        ("their masks", [tinted(image, label) for image, label, _ in varied]),
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
    """Everything that the phantoms can show, on one sheet."""
    key = jax.random.key(seed)
    strips = [*by_grade(key, size), *by_switch(key, size), representation(size), *others(key, size)]
    return page(strips, size)


def main(argv: Sequence[str]) -> int:
    """Write the gallery, one knee, or both."""
    parser = command_line.Parser(
        prog="python -m kneefair_jax.data.phantom",
        description="Draw phantoms by grade, by switch and strength, and wide.",
    )
    parser.add_argument("--out", help="PNG file of the gallery")
    parser.add_argument("--knee", help="PNG file of one knee alone, of 4 x --size pixels a side")
    parser.add_argument(
        "--size", type=command_line.integer(16, _MAX_SIZE), default=192, help="pixels along a picture's side"
    )
    parser.add_argument("--seed", type=command_line.integer(0, command_line.SEED.high), default=0)
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
