"""Score a network by the attributes of phantoms (Dice), and draw the phantoms that it segments worst.

    python -m benchmarks.phantom_attributes [--checkpoint phantom] [--films 300]

Unseen phantoms of the set `varied wide` of `benchmarks.phantom_scores`, at the size of the network's grid; their
attributes are drawn again from their keys. Writes results/phantom_attributes.json and docs/worst_phantoms.png.
"""

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
from PIL import Image

from benchmarks import phantom_scores, robustness
from benchmarks.machine import conditions
from kneefair_jax import anatomy
from kneefair_jax.data.phantom import case, ranges
from kneefair_jax.report import overlays
from kneefair_jax.runtime import atomic

SET = "varied wide"
WORST, ROWS = 12, 2  # films of the picture, and its rows
ROOT = Path(__file__).parents[1]

Table = pd.DataFrame


def _cut(name: str, edges: list[float]) -> Callable[[Table], pd.Series]:
    return lambda settings: pd.cut(settings[name], edges, include_lowest=True)


def _present(name: str, limit: float = 0.0) -> Callable[[Table], pd.Series]:
    return lambda settings: pd.Series(np.where(settings[name] > limit, "yes", "no"))


# Attribute -> its level for each film, from the film's settings (`settings_of`).
ATTRIBUTES: dict[str, Callable[[Table], pd.Series]] = {
    "field of view, mm": _cut("fov", [80, 120, 200, 380]),
    "width of the ranges": _cut("width", [0, 0.33, 0.67, 1]),
    "turn, degrees": lambda s: pd.cut(s["turn"].abs(), [0, 5, 12, 25], include_lowest=True),
    "Kellgren-Lawrence grade": lambda s: s["grade"].astype(int).astype(str),
    "attenuation of the patella": lambda s: pd.cut(
        s["patella"] * (1 - s["patella_faint"].clip(lower=0)), [-0.1, 0.4, 0.8, 2]
    ),
    "photons, log": _cut("log_photons", [5.7, 7, 8, 9.5]),
    "knee replacement": _present("replacement"),
    "plate, screws or nail in the bone": _present("fixation"),
    "metal over the knee": _present("hardware"),
    "tight lateral crop": _present("crop"),
    "CLAHE": _present("clahe"),
    "inverted": _present("inverted"),
}


def settings_of(numbers: np.ndarray) -> Table:
    """Return the settings of phantoms of `SET` by number: a row a film."""
    _, ends, fov = phantom_scores.SETS[SET]

    def one(number: jax.Array) -> dict[str, jax.Array]:
        key, place = phantom_scores.key_and_place(number)
        keys = case._keys(key, number % 2)
        width = phantom_scores.width(place, ends)
        view_key, film_key = jax.random.split(jax.random.fold_in(keys.knee, 2))
        film = case._draw_film_settings(film_key, keys.tissue, case.NO_BIAS, width, varied=True)
        assert film.variation is not None
        return {
            **ranges.draw(view_key, ranges.VIEW, width),
            **film.film,
            **film.variation,
            "width": width,
            "fov": phantom_scores.height(place, fov),
            "grade": case.draw_grade(key, number % 2, case.NO_BIAS, width),
        }

    return pd.DataFrame(jax.device_get(jax.jit(jax.vmap(one))(jnp.asarray(numbers, jnp.int32))))


def by_attribute(dice: Table, settings: Table) -> dict[str, dict[str, dict[str, Any]]]:
    """Mean Dice of each bone by attribute and level, with the number of films."""
    result: dict[str, dict[str, dict[str, Any]]] = {}
    for name, level_of in ATTRIBUTES.items():
        result[name] = {
            str(level): {"films": len(rows), **rows.mean().to_dict()}
            for level, rows in dice.groupby(level_of(settings), observed=True)
        }
    return result


def main() -> None:
    """Print the table, write it as JSON, and draw the worst films."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--checkpoint", default="phantom")
    parser.add_argument("--films", type=int, default=300)
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks/results/phantom_attributes.json")
    parser.add_argument("--picture", type=Path, default=ROOT / "docs/worst_phantoms.png")
    options = parser.parse_args()
    network = robustness.load(options.checkpoint)
    side = network.predictor.grid[0]
    images, labels = phantom_scores.films(SET, options.films, side)
    if not any(name in anatomy.UNIONS for name in network.names):
        labels = anatomy.translation(anatomy.SCHEMES["knee_overlaps"], network.names)[labels].astype(np.uint8)
    films = [robustness.Film(image, label, 1.0) for image, label in zip(images, labels, strict=True)]
    dice = pd.DataFrame(robustness.scored(network, films), columns=list(network.names))
    result = by_attribute(dice, settings_of(np.arange(options.films)))
    for name, levels in result.items():
        print(f"{name}\n{pd.DataFrame(levels).T.round(3).to_string()}", flush=True)
    about = {
        **conditions(),
        "checkpoint": options.checkpoint,
        "films": options.films,
        "set": SET,
        "side": side,
    }
    atomic.write_json(options.out, about | {"attributes": result})
    worst = dice.mean(axis=1).sort_values().index[:WORST].tolist()
    table = anatomy.translation(anatomy.SCHEMES["knee_overlaps"], network.predictor.structures)
    tiles = [
        overlays.Tile(f"{dice.loc[number].mean():.2f}", films[number].image, table[labels[number]], mask)
        for number, mask in zip(
            worst, network.predictor([films[number].image for number in worst]), strict=True
        )
    ]
    columns = WORST // ROWS
    sheet = overlays.sheet([("", tiles[start : start + columns]) for start in range(0, WORST, columns)])
    sheet.quantize(256, dither=Image.Dither.NONE).save(options.picture, optimize=True)


if __name__ == "__main__":
    main()
