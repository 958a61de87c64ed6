"""Measure how often the rules of `kneefair_jax.predict.prediction` reject knees and accept other films.

    python -m benchmarks.plausibility

Clinical phantoms of seeds that the rules' limits were not chosen on, segmented by the network that ships: as they are,
at 128, 192 and 256 pixels a side, and with the joint up to a fifth of the side off the centre; upside down; on their
side; and two in one picture, both knees and a knee with its mirror image. Writes results/plausibility.json.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import robustness
from benchmarks.machine import hardware
from kneefair_jax import predict
from kneefair_jax.runtime import atomic, run_directory

SEED = 904_000


def pictures(cases: int) -> dict[str, list[np.ndarray]]:
    """Kinds of picture -> those, u8[H, W]; the first three kinds are knees."""
    films_by_side = {
        side: robustness.draw(cases, side, robustness.FOV, seed=SEED + side) for side in (128, 192, 256)
    }
    images = [film.image for films in films_by_side.values() for film in films]
    plain = [film.image for film in films_by_side[128]]
    large = robustness.draw(cases, robustness.WHOLE, robustness.WHOLE_FOV, seed=SEED)
    rng = np.random.default_rng(SEED)
    turns = rng.uniform(0, 2 * np.pi, cases)
    return {
        "knees": images,
        "off the centre by 0.1": [
            robustness.window(film, away=0.1, turn=t).image for film, t in zip(large, turns, strict=True)
        ],
        "off the centre by 0.2": [
            robustness.window(film, away=0.2, turn=t).image for film, t in zip(large, turns, strict=True)
        ],
        "upside down": [image[::-1] for image in plain],
        "turned by 180 degrees": [image[::-1, ::-1] for image in plain],
        "on their side": [
            np.rot90(image, k) for image, k in zip(plain, rng.choice([1, 3], cases), strict=True)
        ],
        # Right and left knees come in turn.
        "both knees": [np.concatenate(pair, axis=1) for pair in zip(plain[::2], plain[1::2], strict=True)],
        "a knee and its mirror image": [np.concatenate([image, image[:, ::-1]], axis=1) for image in plain],
    }


def measure(cases: int) -> dict[str, Any]:
    """Of each kind, how many pictures there are, and how many get a quality warning or any warning."""
    predictor = predict.load("phantom", batch_size=16)

    def of(images: Sequence[np.ndarray]) -> dict[str, int]:
        predictions = predictor.predict(images)
        return {
            "pictures": len(predictions),
            "doubted": sum(bool(one.quality_warnings) for one in predictions),
            "warned": sum(bool(one.warning) for one in predictions),
        }

    return {name: of(images) for name, images in pictures(cases).items()}


def main() -> None:
    """Prints the counts, and writes them."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    default = Path(__file__).parent / "results" / "plausibility.json"
    parser.add_argument("--out", type=Path, default=default)
    parser.add_argument("--cases", type=int, default=200, help="films of each size and kind")
    options = parser.parse_args()
    results = measure(options.cases)
    about = {"hardware": hardware(), "environment": run_directory.environment()}
    atomic.write_json(options.out, about | {"seed": SEED, "found": results})
    for name, counts in results.items():
        print(f"{name}: {counts['doubted']} of {counts['pictures']} doubted, {counts['warned']} warned")


if __name__ == "__main__":
    main()
