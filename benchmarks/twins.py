"""Twins: the same knee on two films that differ by one planted switch alone, segmented by a shipped network.

    python -m benchmarks.twins [--checkpoint phantom] [--cases 60]

The effect of a switch on a knee is exact: both films have the same key, so shape, pose, noise and all else are equal
(`case.draw_case`). The table has the mean change of Dice by whole bone, and of the error of measurements against each
film's own exact mask, with Student's intervals over knees. Switches that change what an annotator draws are left out.
"""

import argparse
from pathlib import Path
from typing import Any

import jax
import numpy as np
from scipy import stats

from benchmarks import real_bones
from benchmarks.machine import conditions
from kneefair_jax import anatomy, measurements
from kneefair_jax.data.phantom import case
from kneefair_jax.runtime import atomic

SEED = 8_400_000
SWITCHES = ("morphology", "contrast", "noise", "soft_tissue", "osteophytes", "marker")
MEASURED = ("jsw_min_medial", "jsw_min_lateral", "fta", "bicondylar_width")
OVERLAPS = anatomy.SCHEMES["knee_overlaps"]
SIZE, FOV = 512, 180.0


def score(predictor: Any, film: case.Phantom) -> dict[str, float]:
    """Return Dice by whole bone and the absolute errors of measurements of one film."""
    spacing = (FOV / SIZE, FOV / SIZE)
    prediction = predictor.predict([np.asarray(film.image)], warn=False)[0]
    truth = measurements.whole_bones(np.asarray(film.exact), OVERLAPS)
    predicted = {bone: prediction.outlines[f"whole {bone}"].mask for bone in measurements.BONES}
    scores = {f"dice {bone}": real_bones.dice(predicted[bone], truth[bone]) for bone in measurements.BONES}
    of_truth, of_prediction = (measurements.measure(bones, spacing) for bones in (truth, predicted))
    return scores | {
        f"error {name}": abs(of_prediction[name].value - of_truth[name].value) for name in MEASURED
    }


def effect(changes: np.ndarray) -> dict[str, Any]:
    """Return the mean change over the knees that have it, with Student's interval."""
    defined = changes[~np.isnan(changes)]
    mean, half = float(defined.mean()), float("nan")
    if len(defined) > 1:
        half = float(stats.t.ppf(0.975, len(defined) - 1) * defined.std(ddof=1) / np.sqrt(len(defined)))
    return {"mean": mean, "interval": [mean - half, mean + half], "knees": len(defined)}


def main() -> None:
    """Print the effects and write them as JSON."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--checkpoint", default="phantom")
    parser.add_argument("--cases", type=int, default=60)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "twins.json")
    options = parser.parse_args()
    predictor = real_bones.load(options.checkpoint)

    def draw(key: jax.Array, knee: int, strengths: jax.Array) -> case.Phantom:
        bias = case.Bias()._replace(**dict(zip(SWITCHES, strengths, strict=True)))
        return case.draw_case(key, knee, bias, size=(SIZE, SIZE), fov_mm=FOV, overlaps=True)

    film = jax.jit(draw)
    rows: dict[str, list[dict[str, float]]] = {name: [] for name in ("none", *SWITCHES)}
    for number in range(options.cases):
        for row, name in enumerate(rows):
            strengths = np.zeros(len(SWITCHES), np.float32)
            if row:
                strengths[row - 1] = 1
            rows[name].append(score(predictor, film(jax.random.key(SEED + number), number % 2, strengths)))
    plain = rows.pop("none")
    result = {
        switch: {
            name: effect(
                np.array([changed[name] - own[name] for changed, own in zip(twins, plain, strict=True)])
            )
            for name in plain[0]
        }
        for switch, twins in rows.items()
    }
    for switch, effects in result.items():
        print(switch, {name: round(entry["mean"], 4) for name, entry in effects.items()}, flush=True)
    about = conditions() | {"checkpoint": options.checkpoint, "cases": options.cases, "fov_mm": FOV}
    atomic.write_json(options.out, about | {"effects": result})


if __name__ == "__main__":
    main()
