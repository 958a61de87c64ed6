r"""Score a network with overlap classes against masks of both drawing conventions (Dice).

    python -m benchmarks.conventions [--checkpoint phantom] [--films 200]

Some annotators draw the tibia over the fibula, others the fibula over the tibia. Each phantom has masks of both, and
the network predicts masks of both (`predict --in-front`); each prediction is scored against both masks.
"""

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.machine import conditions
from benchmarks.phantom_scores import films
from kneefair_jax import anatomy, metrics, predict
from kneefair_jax.runtime import atomic

BONES = anatomy.SCHEMES["knee"]
CONVENTIONS = {"tibia over fibula": "", "fibula over tibia": "fibula"}


def merge(labels: np.ndarray, in_front: str) -> np.ndarray:
    """Return the label map of `knee` of one convention from labels of `knee_overlaps`, u8[N, H, W]."""
    return anatomy.translation(anatomy.SCHEMES["knee_overlaps"], BONES, in_front)[labels]


def dice(predicted: np.ndarray, truth: np.ndarray) -> dict[str, float]:
    """Mean Dice of each bone over label maps of `knee`, u8[N, H, W]; NaN where a bone is in no mask."""
    scores = metrics.dice(metrics.overlap(predicted, truth, len(BONES)))
    return pd.DataFrame(np.asarray(scores), columns=list(BONES)).mean().to_dict()


def measure(predicted: dict[str, np.ndarray], truth: dict[str, np.ndarray]) -> dict[str, Any]:
    """Dice by the convention of the masks, of predictions by the same and by the other convention.

    Args:
        predicted: convention -> label maps of `knee`, u8[N, H, W].
        truth: the same of the masks.
    """
    first, second = CONVENTIONS
    same = {name: dice(predicted[name], truth[name]) for name in CONVENTIONS}
    other = {first: dice(predicted[second], truth[first]), second: dice(predicted[first], truth[second])}
    difference = {bone: same[second][bone] - same[first][bone] for bone in BONES}
    macro = {name: float(np.nanmean(list(scores.values()))) for name, scores in same.items()}
    return {"same convention": same, "macro": macro, "other convention": other, "difference": difference}


def main() -> None:
    """Print the scores and write them as JSON."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--checkpoint", default="phantom")
    parser.add_argument("--films", type=int, default=200)
    parser.add_argument("--side", type=int, default=256)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "conventions.json")
    options = parser.parse_args()
    result: dict[str, Any] = {
        **conditions(),
        "checkpoint": options.checkpoint,
        "films": options.films,
        "side": options.side,
    }
    networks = {name: predict.load(options.checkpoint, in_front=front) for name, front in CONVENTIONS.items()}
    for name in ("clinical", "varied clinical"):
        images, labels = films(name, options.films, options.side)
        predicted = {convention: np.stack(network(list(images))) for convention, network in networks.items()}
        result[name] = measure(predicted, {key: merge(labels, front) for key, front in CONVENTIONS.items()})
        for part, scores in result[name].items():
            print(name, part, scores, flush=True)
    atomic.write_json(options.out, result)


if __name__ == "__main__":
    main()
