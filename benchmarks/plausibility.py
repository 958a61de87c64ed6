"""Measure how often `predict` warns of knees, and of films and masks that are none.

    python -m benchmarks.plausibility [BONES PROJECT.py --workdir DIR] [--chest DIR] [--checkpoint phantom]

Knees are clinical phantoms of seeds that no limit was chosen on, at 128, 192 and 256 pixels a side, off the center by a
tenth and a fifth of the side, and films of real bones (BONES and PROJECT.py are those of `benchmarks.real_bones`).
Failures are phantoms and films of real bones upside down, on their side, two in one image and put together of mirrored
halves; lateral films of real bones; chest films (a folder with `images`, as JSRT); blank images; and masks of knees
that lost a bone. Writes results/plausibility.json.
"""

import argparse
import re
import runpy
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from benchmarks import real_bones, robustness
from benchmarks.machine import conditions
from kneefair_jax import predict
from kneefair_jax.predict import Predictor, quality
from kneefair_jax.runtime import atomic

SEED = 904_000
SIDE = 256  # of the phantoms that are made into failures
KNEES = ("knees", "off the center by 0.1", "off the center by 0.2")
LATERAL_DEGREES = 90.0
BATCH = 8


def upright(cases: int, shifted_cases: int) -> dict[str, list[np.ndarray]]:
    """Phantoms of one knee from the front, u8[H, W], by kind: `cases` of each size, fewer off the center."""
    films = [
        film.image
        for side in (128, 192, 256)
        for film in robustness.draw(cases, side, robustness.FOV, seed=SEED + side)
    ]
    large = robustness.draw(shifted_cases, robustness.WHOLE, robustness.WHOLE_FOV, seed=SEED)
    turns = np.random.default_rng(SEED).uniform(0, 2 * np.pi, shifted_cases)

    def shifted(away: float) -> list[np.ndarray]:
        pairs = zip(large, turns, strict=True)
        return [robustness.window(film, away=away, turn=turn).image for film, turn in pairs]

    return dict(zip(KNEES, (films, shifted(0.1), shifted(0.2)), strict=True))


def failures(films: Sequence[np.ndarray], of: str) -> dict[str, list[np.ndarray]]:
    """What may happen to films of one knee, by kind."""
    quarters = np.random.default_rng(SEED).choice([1, 3], len(films))
    pairs = zip(films[::2], films[1::2], strict=False)

    def mirrored(film: np.ndarray) -> np.ndarray:
        half = film[:, : film.shape[1] // 2]
        return np.concatenate([half, half[:, ::-1]], axis=1)

    return {
        f"{of}, upside down": [film[::-1] for film in films],
        f"{of}, turned by 180 degrees": [film[::-1, ::-1] for film in films],
        f"{of}, on their side": [np.rot90(film, k) for film, k in zip(films, quarters, strict=True)],
        f"{of}, two in one image": [np.concatenate(pair, axis=1) for pair in pairs],
        f"{of}, beside their mirror image": [np.concatenate([one, one[:, ::-1]], axis=1) for one in films],
        f"{of}, of mirrored halves": [mirrored(film) for film in films],
    }


class _Lateral:
    """Random numbers of PROJECT.py for a knee from the side: the first three are its angles, in degrees."""

    def __init__(self, seed: int):
        self._rng = np.random.default_rng(seed)

    def normal(self, loc: float = 0.0, scale: Any = 1.0, size: Any = None) -> Any:
        """As of a generator, turned by `LATERAL_DEGREES` where three angles are drawn."""
        is_pose = np.ndim(scale) == 1
        turn = np.array([LATERAL_DEGREES, 0.0, 0.0]) if is_pose else 0.0
        return self._rng.normal(loc, scale, size) + turn

    def __getattr__(self, name: str) -> Any:
        return getattr(self._rng, name)


def laterals(bones: Path, script: Path, size: int = 384) -> list[np.ndarray]:
    """Lateral films of real bones, as many of each knee as from the front."""
    project: dict[str, Any] = runpy.run_path(str(script))
    films = []
    for knee, path in enumerate(sorted(bones.glob("*.npz"))):
        arrays = np.load(path)
        surfaces = {
            name: (arrays[f"{name}_vertices_mm"].astype(float), arrays[f"{name}_faces"])
            for name in project["LABELS"]
        }
        for number in range(real_bones.FILMS):
            films.append(project["film"](surfaces, _Lateral(SEED + 100 * knee + number), size)[0])
    return films


def without_a_bone(predictor: Predictor, films: Sequence[np.ndarray]) -> dict[str, dict[str, Any]]:
    """The rules of anatomy alone, on masks that lost a bone, for each bone."""
    predictions = predictor.predict(films, warn=False)
    result = {}
    for lost in predictor.structures:
        warned = 0
        for one in predictions:
            masks = {name: one.mask == value for value, name in enumerate(predictor.structures, start=1)}
            masks[lost] = np.zeros_like(masks[lost])
            warned += bool(quality.anatomy_warnings(masks))
        result[f"masks without {lost}"] = {"films": len(films), "warned": warned}
    return result


def count(predictor: Predictor, films: Sequence[np.ndarray]) -> dict[str, Any]:
    """How many films there are and get a warning, and how many get each warning."""
    predictions = predictor.segment([np.asarray(film)[..., None] for film in films])
    kinds = Counter(re.split(r"[:(?]", warning)[0].strip() for one in predictions for warning in one.warnings)
    return {
        "films": len(predictions),
        "warned": sum(bool(one.warnings) for one in predictions),
        "warnings": dict(kinds.most_common()),
    }


def main() -> None:
    """Print the counts, and write them."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    default = Path(__file__).parent / "results" / "plausibility.json"
    parser.add_argument("bones", type=Path, nargs="?")
    parser.add_argument("script", type=Path, nargs="?")
    parser.add_argument("--workdir", type=Path, help="of the films of real bones")
    parser.add_argument("--chest", type=Path, help="folder with images/ of chest films")
    parser.add_argument("--checkpoint", default="phantom")
    parser.add_argument("--out", type=Path, default=default)
    parser.add_argument("--cases", type=int, default=200, help="phantoms of each size and kind")
    parser.add_argument("--failures", type=int, default=100, help="films of each kind of failure")
    options = parser.parse_args()
    predictor = predict.load(options.checkpoint, batch_size=BATCH)
    plain = [
        film.image for film in robustness.draw(options.failures, SIDE, robustness.FOV, seed=SEED + SIDE + 1)
    ]
    kinds = upright(options.cases, options.failures) | failures(plain, "phantoms")
    if options.bones:
        folders = [
            real_bones.films(options.bones, options.script, options.workdir, seed, real_bones.FILMS)
            for seed in (0, 1)
        ]
        paths = [path for folder in folders for path in sorted((folder / "images").iterdir())]
        films = [np.asarray(Image.open(path)) for path in paths]
        kinds |= {"real bones": films} | failures(
            films[:: max(1, len(films) // options.failures)], "real bones"
        )
        kinds["real bones, lateral"] = laterals(options.bones, options.script)
    if options.chest:
        paths = sorted((options.chest / "images").iterdir())[: options.failures]
        kinds["chest films"] = [np.asarray(Image.open(path).convert("L")) for path in paths]
    kinds["blank"] = [np.full((SIDE, SIDE), gray, np.uint8) for gray in (0, 128, 255)]
    results: dict[str, Any] = {}
    for name, images in kinds.items():
        results[name] = count(predictor, images)
        print(f"{name}: {results[name]}", flush=True)
    lost = without_a_bone(predictor, plain)
    print(lost)
    about = conditions() | {"checkpoint": options.checkpoint, "seed": SEED}
    atomic.write_json(options.out, about | {"found": results | lost})


if __name__ == "__main__":
    main()
