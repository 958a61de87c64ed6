"""Score the shipped network on clinical phantoms that are changed step by step (Dice).

    python benchmarks/robustness.py

Dice by structure and Kellgren-Lawrence grade on unseen phantoms as clinics see knees (140 mm in 128 x 128 pixels), and
Dice against rotation, field of view, place, exposure, noise, resolution and metal. Those films are seen through a
window of a larger one (280 mm), so that a turned or wider picture shows the leg, not an edge. Writes
results/robustness.json and docs/robustness.png.
"""

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure
from PIL import Image, ImageDraw
from scipy import ndimage

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.machine import hardware
from kneefair_jax import anatomy, predict
from kneefair_jax.data.phantom import draw_case
from kneefair_jax.predict import Predictor
from kneefair_jax.report import overlays
from kneefair_jax.runtime import atomic, run_directory

SEED = 771_000
SIDE, FOV = 128, 140.0
WHOLE, WHOLE_FOV = 384, 280.0
_BATCH = 16


class Film(NamedTuple):
    """A large film and its mask, u8[384, 384] each."""

    image: np.ndarray
    label: np.ndarray


def draw(cases: int, side: int, fov: float, grade: int | None = None, seed: int = SEED) -> list[Film]:
    """Right and left knees in turn, of seeds that no network was trained on."""
    keys = jax.vmap(lambda number: jax.random.fold_in(jax.random.key(seed), number))(
        jnp.arange(cases) + 10_000 * (-1 if grade is None else grade) + 10_000
    )
    one = jax.jit(
        jax.vmap(lambda key, knee: draw_case(key, knee, size=(side, side), fov_mm=fov, grade=grade))
    )
    films = []
    for start in range(0, cases, _BATCH):
        phantoms = jax.device_get(
            one(keys[start : start + _BATCH], jnp.arange(start, min(start + _BATCH, cases)) % 2)
        )
        films += [Film(image, label) for image, label in zip(phantoms.image, phantoms.exact, strict=True)]
    return films


def window(film: Film, *, angle: float = 0.0, fov: float = FOV, away: float = 0.0, turn: float = 0.0) -> Film:
    """What a picture of 128 x 128 pixels shows of a film.

    Args:
        film: the film.
        angle: of the picture, degrees.
        fov: its field of view, mm.
        away: how far its centre is from the film's, as a share of its side, in the direction `turn` (radians).
        turn: see `away`.
    """
    scale = fov / SIDE * WHOLE / WHOLE_FOV  # the film's pixels in one of the picture's
    cosine, sine = np.cos(np.deg2rad(angle)), np.sin(np.deg2rad(angle))
    matrix = scale * np.array([[cosine, -sine], [sine, cosine]])
    centre = (WHOLE - 1) / 2 + away * SIDE * scale * np.array([np.sin(turn), np.cos(turn)])
    offset = centre - matrix @ np.full(2, (SIDE - 1) / 2)
    # A pixel is the mean of what it covers.
    smooth = ndimage.gaussian_filter(film.image.astype(np.float32), max(0.0, 0.4 * (scale - 1)))
    options: dict[str, Any] = {"output_shape": (SIDE, SIDE), "mode": "constant"}
    image = ndimage.affine_transform(smooth, matrix, offset, order=1, **options)
    label = ndimage.affine_transform(film.label, matrix, offset, order=0, **options)
    return Film(image.round().astype(np.uint8), label)


def _grey(film: Film, change: Callable[[np.ndarray], np.ndarray]) -> Film:
    values = np.clip(change(film.image / 255.0), 0, 1)
    return film._replace(image=(255 * values).round().astype(np.uint8))


def _coarser(film: Film, pixels: int) -> Film:
    small = Image.fromarray(film.image).resize((pixels, pixels), Image.Resampling.BOX)
    return film._replace(image=np.asarray(small.resize((SIDE, SIDE), Image.Resampling.BILINEAR)))


def _with_metal(film: Film, pieces: int, rng: np.random.Generator) -> Film:
    """Screws: white bars, 30 mm long and 4 mm wide, anywhere on the bones."""
    image = Image.fromarray(film.image)
    pen, places = ImageDraw.Draw(image), np.argwhere(film.label > 0)
    for _ in range(pieces):
        y, x = places[rng.integers(len(places))]
        angle = rng.uniform(0, np.pi)
        half = 15.0 * SIDE / FOV * np.array([np.cos(angle), np.sin(angle)])
        pen.line(
            [x - half[0], y - half[1], x + half[0], y + half[1]], fill=255, width=round(4.0 * SIDE / FOV)
        )
    return film._replace(image=np.asarray(image))


class Sweep(NamedTuple):
    """A change in steps; `make` takes film, step and a generator."""

    axis: str
    steps: tuple[float, ...]
    make: Callable[[Film, float, np.random.Generator], Film]


def _signed(value: float, rng: np.random.Generator) -> float:
    return value * (1 if rng.random() < 0.5 else -1)


SWEEPS = {
    "rotation": Sweep(
        "degrees, either way", (0, 5, 10, 20, 30, 45, 60, 90), lambda f, v, r: window(f, angle=_signed(v, r))
    ),
    "scale": Sweep("field of view, mm", (60, 80, 100, 140, 180, 230, 280), lambda f, v, r: window(f, fov=v)),
    "crop": Sweep(
        "joint off the centre, share of the side",
        (0, 0.1, 0.2, 0.3, 0.4, 0.5),
        lambda f, v, r: window(f, away=v, turn=r.uniform(0, 2 * np.pi)),
    ),
    "exposure": Sweep(
        "exponent of the grey values",
        (0.2, 0.33, 0.5, 1, 2, 3, 5),
        lambda f, v, r: _grey(window(f), lambda grey: grey**v),
    ),
    "noise": Sweep(
        "standard deviation, share of white",
        (0, 0.05, 0.1, 0.2, 0.3, 0.5),
        lambda f, v, r: _grey(window(f), lambda grey: grey + v * r.normal(size=grey.shape)),
    ),
    "resolution": Sweep(
        "pixels a side", (8, 12, 16, 24, 32, 64, 128), lambda f, v, r: _coarser(window(f), int(v))
    ),
    "hardware": Sweep(
        "bars of metal", (0, 1, 2, 4, 8, 16), lambda f, v, r: _with_metal(window(f), int(v), r)
    ),
}


def scored(predictor: Predictor, films: Sequence[Film]) -> np.ndarray:
    """Dice f64[N, S]; NaN where a structure is in neither mask."""
    masks = predictor([film.image for film in films])
    rows = []
    for film, mask in zip(films, masks, strict=True):
        each = []
        for value in range(1, len(predictor.structures) + 1):
            true, predicted = film.label == value, mask == value
            size = true.sum() + predicted.sum()
            each.append(2 * (true & predicted).sum() / size if size else np.nan)
        rows.append(each)
    return np.array(rows)


def summary(dice: np.ndarray, structures: Sequence[str]) -> dict[str, Any]:
    """Mean over films and its 95 % bootstrap interval, by structure; the films that have it."""
    rng, results = np.random.default_rng(0), {}
    for name, values in zip(structures, dice.T, strict=True):
        finite = values[~np.isnan(values)]
        means = rng.choice(finite, (2000, len(finite))).mean(1)
        results[name] = {
            "mean": float(finite.mean()),
            "interval": np.quantile(means, (0.025, 0.975)).tolist(),
            "films": len(finite),
        }
    return results


def measure(cases: int) -> dict[str, Any]:
    """By grade, and along each sweep."""
    predictor = predict.load("phantom", batch_size=_BATCH)
    names = predictor.structures
    each = [scored(predictor, draw(cases, SIDE, FOV, grade)) for grade in range(5)]
    by_grade = {"all": summary(np.concatenate(each), names)}
    by_grade |= {str(grade): summary(dice, names) for grade, dice in enumerate(each)}
    films = draw(cases, WHOLE, WHOLE_FOV)
    curves = {}
    for name, sweep in SWEEPS.items():
        curves[name] = {"axis": sweep.axis, "steps": list(sweep.steps), "dice": []}
        for step in sweep.steps:
            rng = np.random.default_rng(SEED)
            dice = scored(predictor, [sweep.make(film, step, rng) for film in films])
            curves[name]["dice"].append(summary(dice, names))
    return {"by_grade": by_grade, "curves": curves}


def plot(results: dict[str, Any], path: Path) -> None:
    """A panel a sweep, a line a structure, its interval as a band."""
    structures, curves = anatomy.SCHEMES["knee"], results["curves"]
    panels = {name: (sweep.axis, sweep.steps, curves[name]["dice"]) for name, sweep in SWEEPS.items()}
    grades = [grade for grade in results["by_grade"] if grade != "all"]
    panels["grade"] = (
        "Kellgren-Lawrence",
        [float(g) for g in grades],
        [results["by_grade"][g] for g in grades],
    )
    figure = Figure(figsize=(10, 5), layout="constrained")
    axes = figure.subplots(2, 4, sharey=True).ravel()
    for panel, (name, (axis, steps, dice)) in zip(axes, panels.items(), strict=True):
        for place, structure in enumerate(structures):
            colour = np.array(overlays.color(place + 1)) / 255
            means = [one[structure]["mean"] for one in dice]
            low, high = zip(*(one[structure]["interval"] for one in dice), strict=True)
            panel.fill_between(steps, low, high, color=colour, alpha=0.25, linewidth=0)
            panel.plot(steps, means, color=colour, marker="osD^"[place], markersize=3.5, label=structure)
        if name in ("exposure", "resolution"):
            panel.set_xscale("log")
            panel.set_xticks(steps, [f"{step:g}" for step in steps])
            panel.minorticks_off()
        panel.set_title(name)
        panel.set_xlabel(axis, fontsize=8)
        panel.tick_params(labelsize=7)
        panel.grid(alpha=0.3)
        panel.set_ylim(0, 1.02)
    axes[0].set_ylabel("Dice")
    axes[4].set_ylabel("Dice")
    axes[0].legend(fontsize=8, loc="lower left")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=90)


def main() -> None:
    """Prints the table, and writes numbers and picture."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    root = Path(__file__).parents[1]
    parser.add_argument("--out", type=Path, default=root / "benchmarks" / "results" / "robustness.json")
    parser.add_argument("--picture", type=Path, default=root / "docs" / "robustness.png")
    parser.add_argument("--cases", type=int, default=64, help="films of each grade, and of each step")
    options = parser.parse_args()
    about = {"hardware": hardware(), "environment": run_directory.environment()}
    results = {"seed": SEED, "cases": options.cases} | measure(options.cases)
    atomic.write_json(options.out, about | results)
    plot(results, options.picture)
    for grade, scores in results["by_grade"].items():
        print(grade, "  ".join(f"{name} {one['mean']:.3f}" for name, one in scores.items()))


if __name__ == "__main__":
    main()
