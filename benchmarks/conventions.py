r"""Score a network with overlap classes against masks of both drawing conventions (Dice).

    python -m benchmarks.conventions [--checkpoint phantom-v2] [--films 200]

Some annotators draw the tibia over the fibula, others the fibula over the tibia. Each phantom has masks of both; the
network's classes are merged into the label map of each convention (`anatomy.translation`, as `predict --in-front` does)
and scored against its mask, and against the mask of the other convention.
"""

import argparse
import datetime
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pandas as pd

from benchmarks.machine import hardware, versions
from benchmarks.phantom_scores import SEED
from kneefair_jax import anatomy, metrics, predict
from kneefair_jax.data import phantom
from kneefair_jax.runtime import atomic

BONES = anatomy.SCHEMES["knee"]
OVERLAPS = anatomy.SCHEMES["knee_overlaps"]
CONVENTIONS = {"tibia over fibula": "", "fibula over tibia": "fibula"}
BATCH = 20


def films(count: int, side: int, *, varied: bool) -> tuple[np.ndarray, np.ndarray]:
    """Draw clinical phantoms: gray values u8[N, side, side] and exact labels of `knee_overlaps`."""
    draw: Callable[[jax.Array], Any] = jax.jit(
        jax.vmap(
            lambda number: phantom.draw_case(
                jax.random.fold_in(jax.random.key(SEED), number),
                number % 2,
                size=(side, side),
                overlaps=True,
                varied=varied,
            )
        )
    )
    cases = [jax.device_get(draw(np.arange(first, first + BATCH))) for first in range(0, count, BATCH)]
    images, labels = (
        np.concatenate([getattr(case, name) for case in cases])[:count] for name in ("image", "exact")
    )
    return images, labels


def dice(predicted: np.ndarray, truth: np.ndarray, predicted_front: str, true_front: str) -> dict[str, float]:
    """Mean Dice of each bone between label maps of `knee_overlaps`, u8[N, H, W], each merged by a convention."""
    tables = [anatomy.translation(OVERLAPS, BONES, front) for front in (predicted_front, true_front)]
    counts = metrics.overlap(tables[0][predicted], tables[1][truth], len(BONES))
    # NaN where a bone is in neither mask.
    return pd.DataFrame(np.asarray(metrics.dice(counts)), columns=list(BONES)).mean().to_dict()


def measure(predicted: np.ndarray, truth: np.ndarray) -> dict[str, Any]:
    """Dice by the convention of the masks, with the same and with the other convention of the prediction."""
    same = {name: dice(predicted, truth, front, front) for name, front in CONVENTIONS.items()}
    fronts = list(CONVENTIONS.values())
    other = {
        name: dice(predicted, truth, fronts[1 - place], front)
        for place, (name, front) in enumerate(CONVENTIONS.items())
    }
    first, second = same.values()
    return {
        "same convention": same,
        "other convention": other,
        "difference": {bone: second[bone] - first[bone] for bone in BONES},
    }


def main() -> None:
    """Print the scores and write them as JSON."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--checkpoint", default="phantom-v2")
    parser.add_argument("--films", type=int, default=200)
    parser.add_argument("--side", type=int, default=256)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "conventions.json")
    options = parser.parse_args()
    predictor = predict.load(options.checkpoint, batch_size=8)
    result: dict[str, Any] = {
        "hardware": hardware(),
        "versions": versions(),
        "started": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "checkpoint": options.checkpoint,
        "films": options.films,
        "side": options.side,
    }
    for name, varied in (("clinical", False), ("varied clinical", True)):
        images, labels = films(options.films, options.side, varied=varied)
        predicted = np.stack(predictor(list(images)))
        result[name] = measure(predicted, labels)
        for part, scores in result[name].items():
            print(name, part, scores)
    atomic.write_json(options.out, result)


if __name__ == "__main__":
    main()
