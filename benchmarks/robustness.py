"""Score a shipped network on clinical phantoms that are changed step by step (Dice).

    python benchmarks/robustness.py [--checkpoint phantom]

Dice by structure and Kellgren-Lawrence grade on unseen phantoms as clinics see knees (140 mm in the pixels of the
network's grid), and Dice against rotation, field of view, place, exposure, noise, resolution, metal, contrast
equalization and inversion. Those films are seen through a window of a larger one (280 mm), so that a turned or wider
picture shows the leg, not an edge. Of a network with overlap classes, whole bones are scored. `visible` are the scores
of the bones of which a film shows at least half the outline of the unchanged film, and 200 mm2. Writes
results/robustness.json and docs/robustness.png, or with another checkpoint the JSON alone.
"""

import argparse
import itertools
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
from kneefair_jax import anatomy, predict, weights
from kneefair_jax.data.phantom import detector, draw_case
from kneefair_jax.predict import Prediction, Predictor
from kneefair_jax.report import overlays
from kneefair_jax.runtime import atomic, run_directory

SEED = 771_000
SIDE, FOV = 128, 140.0
WHOLE, WHOLE_FOV = 384, 280.0  # three times the side, whatever it is
VISIBLE_MM2 = 200.0
_BATCH = 16


class Film(NamedTuple):
    """A film and its mask, u8[H, H] each, and the height of its field of view in mm."""

    image: np.ndarray
    label: np.ndarray
    fov: float


def draw(
    cases: int, side: int, fov: float, grade: int | None = None, seed: int = SEED, *, overlaps: bool = False
) -> list[Film]:
    """Right and left knees in turn, of seeds that no network was trained on."""
    keys = jax.vmap(lambda number: jax.random.fold_in(jax.random.key(seed), number))(
        jnp.arange(cases) + 10_000 * (-1 if grade is None else grade) + 10_000
    )
    one = jax.jit(
        jax.vmap(
            lambda key, knee: draw_case(
                key, knee, size=(side, side), fov_mm=fov, grade=grade, overlaps=overlaps
            )
        )
    )
    films = []
    for start in range(0, cases, _BATCH):
        phantoms = jax.device_get(
            one(keys[start : start + _BATCH], jnp.arange(start, min(start + _BATCH, cases)) % 2)
        )
        films += [
            Film(image, label, fov) for image, label in zip(phantoms.image, phantoms.exact, strict=True)
        ]
    return films


def window(film: Film, *, angle: float = 0.0, fov: float = FOV, away: float = 0.0, turn: float = 0.0) -> Film:
    """What a picture with a third of the film's side in pixels shows of it.

    Args:
        film: the film.
        angle: of the picture, degrees.
        fov: its field of view, mm.
        away: how far its centre is from the film's, as a share of its side, in the direction `turn` (radians).
        turn: see `away`.
    """
    whole = len(film.image)
    side = whole // 3
    scale = fov / side * whole / film.fov  # the film's pixels in one of the picture's
    cosine, sine = np.cos(np.deg2rad(angle)), np.sin(np.deg2rad(angle))
    matrix = scale * np.array([[cosine, -sine], [sine, cosine]])
    centre = (whole - 1) / 2 + away * side * scale * np.array([np.sin(turn), np.cos(turn)])
    offset = centre - matrix @ np.full(2, (side - 1) / 2)
    # A pixel is the mean of what it covers.
    smooth = ndimage.gaussian_filter(film.image.astype(np.float32), max(0.0, 0.4 * (scale - 1)))
    options: dict[str, Any] = {"output_shape": (side, side), "mode": "constant"}
    image = ndimage.affine_transform(smooth, matrix, offset, order=1, **options)
    label = ndimage.affine_transform(film.label, matrix, offset, order=0, **options)
    return Film(image.round().astype(np.uint8), label, fov)


def _grey(film: Film, change: Callable[[np.ndarray], np.ndarray]) -> Film:
    values = np.clip(change(film.image / 255.0), 0, 1)
    return film._replace(image=(255 * values).round().astype(np.uint8))


def _coarser(film: Film, pixels: int) -> Film:
    side = len(film.image)
    small = Image.fromarray(film.image).resize((pixels, pixels), Image.Resampling.BOX)
    return film._replace(image=np.asarray(small.resize((side, side), Image.Resampling.BILINEAR)))


def _with_metal(film: Film, pieces: int, rng: np.random.Generator) -> Film:
    """Screws: white bars, 30 mm long and 4 mm wide, anywhere on the bones."""
    image = Image.fromarray(film.image)
    per_mm = len(film.image) / film.fov
    pen, places = ImageDraw.Draw(image), np.argwhere(film.label > 0)
    for _ in range(pieces):
        y, x = places[rng.integers(len(places))]
        angle = rng.uniform(0, np.pi)
        half = 15.0 * per_mm * np.array([np.cos(angle), np.sin(angle)])
        pen.line([x - half[0], y - half[1], x + half[0], y + half[1]], fill=255, width=round(4.0 * per_mm))
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
    "CLAHE": Sweep(
        "clip limit, counts of a flat histogram",
        (0, 2, 3, 5),
        lambda f, v, r: _grey(
            window(f), lambda grey: np.asarray(detector.clahe(jnp.asarray(grey), v, 8.0)) if v else grey
        ),
    ),
    "inversion": Sweep(
        "0 as it is, 1 inverted",
        (0, 1),
        lambda f, v, r: _grey(window(f), lambda grey: 1 - grey if v else grey),
    ),
}
# Shown in docs/robustness.png.
PANELS = ("rotation", "scale", "crop", "exposure", "noise", "resolution", "hardware")


class Network(NamedTuple):
    """A network and what is scored of it.

    Attributes:
        predictor: with the outlines of whole bones if it has overlap classes.
        names: of the structures that are scored (`anatomy.scored_structures`).
        members: bool[S, C], the labels of a film's mask in each.
    """

    predictor: Predictor
    names: tuple[str, ...]
    members: np.ndarray

    def masks(self, prediction: Prediction) -> list[np.ndarray]:
        """Return the predicted mask of each structure, bool[H, W]."""
        labels = dict(zip(self.predictor.structures, itertools.count(1)))
        return [
            prediction.outlines[name].mask if name in prediction.outlines else prediction.mask == labels[name]
            for name in self.names
        ]


def load(checkpoint: str) -> Network:
    """Load a network."""
    classes = tuple(next(iter(weights.load_by_group(checkpoint).values())).about["structures"])
    outlines = bool(anatomy.whole_bones(classes))
    predictor = predict.load(checkpoint, outlines=outlines, batch_size=_BATCH)
    names = anatomy.scored_structures(classes)
    return Network(predictor, names, anatomy.membership(classes, names))


def scored(network: Network, films: Sequence[Film]) -> np.ndarray:
    """Dice f64[N, S] of the network's structures; NaN where one is in neither mask."""
    rows = []
    for film, prediction in zip(
        films, network.predictor.predict([film.image for film in films], warn=False), strict=True
    ):
        true, predicted = network.members[:, film.label], np.stack(network.masks(prediction))
        size = true.sum((1, 2)) + predicted.sum((1, 2))
        both = (true & predicted).sum((1, 2))
        rows.append(np.where(size > 0, 2 * both / np.maximum(size, 1), np.nan))
    return np.array(rows)


def outline_mm(mask: np.ndarray, fov: float) -> float:
    """Length of the outline of a mask bool[H, H] within the picture, by its pixels that have a neighbour outside."""
    inside = ndimage.binary_erosion(mask, border_value=1)
    return float((mask & ~inside).sum() * fov / len(mask))


def visible(members: np.ndarray, films: Sequence[Film], unchanged: Sequence[Film]) -> np.ndarray:
    """Which bones of changed films show half of the outline that the unchanged film shows, and 200 mm2; bool[N, S]."""
    rows = []
    for film, before in zip(films, unchanged, strict=True):
        pixel = film.fov / len(film.label)
        rows.append(
            [
                mask.sum() * pixel**2 >= VISIBLE_MM2
                and outline_mm(mask, film.fov) >= 0.5 * outline_mm(whole, before.fov)
                for mask, whole in zip(members[:, film.label], members[:, before.label], strict=True)
            ]
        )
    return np.array(rows)


def summary(dice: np.ndarray, structures: Sequence[str]) -> dict[str, Any]:
    """Mean over films and its 95 % bootstrap interval, by structure; the films that have it."""
    rng, results = np.random.default_rng(0), {}
    for name, values in zip(structures, dice.T, strict=True):
        finite = values[~np.isnan(values)]
        if not len(finite):
            continue
        means = rng.choice(finite, (2000, len(finite))).mean(1)
        results[name] = {
            "mean": float(finite.mean()),
            "interval": np.quantile(means, (0.025, 0.975)).tolist(),
            "films": len(finite),
        }
    return results


def measure(checkpoint: str, cases: int) -> dict[str, Any]:
    """By grade, and along each sweep."""
    network = load(checkpoint)
    names = network.names
    overlaps = any(name in anatomy.UNIONS for name in names)
    side = network.predictor.grid[0]
    each = [scored(network, draw(cases, side, FOV, grade, overlaps=overlaps)) for grade in range(5)]
    by_grade = {"all": summary(np.concatenate(each), names)}
    by_grade |= {str(grade): summary(dice, names) for grade, dice in enumerate(each)}
    whole = draw(cases, 3 * side, WHOLE_FOV, overlaps=overlaps)
    unchanged = [window(film) for film in whole]
    curves = {}
    for name, sweep in SWEEPS.items():
        curves[name] = {"axis": sweep.axis, "steps": list(sweep.steps), "dice": [], "visible": []}
        for step in sweep.steps:
            rng = np.random.default_rng(SEED)
            films = [sweep.make(film, step, rng) for film in whole]
            dice = scored(network, films)
            curves[name]["dice"].append(summary(dice, names))
            shown = np.where(visible(network.members, films, unchanged), dice, np.nan)
            curves[name]["visible"].append(summary(shown, names))
        print(
            name,
            [round(min(s["mean"] for s in step.values()), 3) for step in curves[name]["visible"]],
            flush=True,
        )
    return {"by_grade": by_grade, "curves": curves}


def plot(results: dict[str, Any], path: Path) -> None:
    """A panel a sweep, a line a structure, its interval as a band."""
    structures, curves = list(results["by_grade"]["all"]), results["curves"]
    panels = {name: (SWEEPS[name].axis, SWEEPS[name].steps, curves[name]["dice"]) for name in PANELS}
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
    parser.add_argument("--checkpoint", default="phantom")
    parser.add_argument("--out", type=Path, default=root / "benchmarks" / "results" / "robustness.json")
    parser.add_argument("--picture", type=Path, default=root / "docs" / "robustness.png")
    parser.add_argument("--cases", type=int, default=64, help="films of each grade, and of each step")
    options = parser.parse_args()
    about = {"hardware": hardware(), "environment": run_directory.environment()}
    results = {"checkpoint": options.checkpoint, "seed": SEED, "cases": options.cases} | measure(
        options.checkpoint, options.cases
    )
    atomic.write_json(options.out, about | results)
    if options.checkpoint == "phantom":
        plot(results, options.picture)
    for grade, scores in results["by_grade"].items():
        print(grade, "  ".join(f"{name} {one['mean']:.3f}" for name, one in scores.items()))


if __name__ == "__main__":
    main()
