"""Calibrate the predicted Dice of a shipped network on phantoms, and test it on other phantoms and on real bones.

    python -m benchmarks.predicted_dice calibrate --checkpoint phantom
    python -m benchmarks.predicted_dice test --checkpoint phantom BONES PROJECT.py --workdir DIR

`calibrate` writes the lines of `kneefair_jax.predict.quality` into the network's JSON file. Its cases are varied
phantoms of all widths for lines and intervals, and varied phantoms of clinical ranges for the limit of warnings. `test`
takes phantoms of other numbers, and films of real bones (BONES and PROJECT.py are those of `benchmarks.real_bones`):
the share of true Dice inside the interval, the interval's width, and the rank correlation of predicted and true Dice.
"""

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image
from scipy import stats

from benchmarks import phantom_scores, real_bones
from benchmarks.machine import conditions
from kneefair_jax import anatomy, weights
from kneefair_jax.predict import Predictor, quality
from kneefair_jax.runtime import atomic

STRUCTURES = anatomy.SCHEMES["knee_overlaps"]
FALSE_ALARMS = 0.002
# Films of real bones have lower sums than phantoms: of 96 films of seed 10, 10 are below the share's limit, and
# 2 are this much below it. The test has other films of the same bones, so its share of false alarms is slightly low.
MARGIN = 1.2
FIRST = 500_000  # number of the first phantom to calibrate on
BATCH = 8

type Film = tuple[np.ndarray, dict[str, np.ndarray]]


def load(checkpoint: str) -> Predictor:
    """Load a network without cleaning, with outlines if it has overlap classes: predicted Dice refers to these."""
    return real_bones.load(checkpoint, raw=True)


def phantoms(name: str, checkpoint: str, cases: int, first: int = 0) -> list[Film]:
    """Films of one of `phantom_scores.SETS`, with the masks bool[H, W] of their bones as in a label map, and whole."""
    images, labels = phantom_scores.films(name, cases, weights.load(checkpoint).about["grid"][0], first)
    names = (*anatomy.SCHEMES["knee"], *anatomy.whole_bones(STRUCTURES))
    members = [anatomy.membership(STRUCTURES, [bone])[0] for bone in names]
    return [
        (image, dict(zip(names, (member[label] for member in members), strict=True)))
        for image, label in zip(images, labels, strict=True)
    ]


def films_of_bones(folders: Sequence[Path]) -> list[Film]:
    """Films of real bones with the masks bool[H, W] of their bones."""
    films = []
    for folder in folders:
        for path in sorted((folder / "images").iterdir()):
            label = np.asarray(Image.open(folder / "masks" / path.name))
            outlines = np.load(folder / "outlines" / f"{path.stem}.npz")
            masks = {name: label == value for name, value in (("femur", 1), ("tibia", 2), ("patella", 4))}
            masks |= {f"whole {name}": outlines[name] for name in outlines.files}
            films.append((np.asarray(Image.open(path)), masks))
    return films


def measure(predictor: Predictor, films: Sequence[Film]) -> pd.DataFrame:
    """Soft and true Dice: a row a film and structure, columns `film`, `structure`, `soft`, `dice`."""
    rows = []
    for first in range(0, len(films), BATCH):
        batch = films[first : first + BATCH]
        images = [image for image, _ in batch]
        classes = predictor.probabilities(images, merged=False)
        predictions = predictor.segment([image[..., None] for image in images], warn=False)
        for number, (probabilities, prediction, (_, truth)) in enumerate(
            zip(classes, predictions, batch, strict=True), start=first
        ):
            masks = {
                name: prediction.mask == value for value, name in enumerate(predictor.structures, start=1)
            }
            masks |= {name: outline.mask for name, outline in prediction.outlines.items()}
            for name, soft in predictor.soft_dice(probabilities).items():
                if name in truth:
                    dice = real_bones.dice(masks[name], truth[name])
                    rows.append({"film": number, "structure": name, "soft": soft, "dice": dice})
    return pd.DataFrame(rows)


def calibrate(checkpoint: str, cases: int) -> dict[str, Any]:
    """The field `quality` of a network's description."""
    predictor = load(checkpoint)
    wide, clinical = (
        measure(predictor, phantoms(name, checkpoint, cases, FIRST))
        for name in ("varied wide", "varied clinical")
    )
    fields = quality.calibrate(
        by_structure(wide, "soft"),
        by_structure(wide, "dice"),
        by_structure(clinical, "soft"),
        [name for name in predictor.structures if name != quality.OPTIONAL_BONE],
        FALSE_ALARMS,
        MARGIN,
    )
    about = f"{cases} varied phantoms of all widths (lines), {cases} of clinical ranges (limits)"
    return fields | {"cases": about}


def by_structure(scores: pd.DataFrame, value: str) -> dict[str, np.ndarray]:
    """Values f64[N] by structure, in the order of the films."""
    wide = scores.pivot(index="film", columns="structure", values=value)
    return {str(name): column.to_numpy() for name, column in wide.items()}


def coverage(scores: pd.DataFrame, lines: Mapping[str, quality.Line]) -> dict[str, dict[str, float]]:
    """By structure: share inside the interval, its median width, rank correlation, means of predicted and true Dice."""
    result = {}
    for name, of_structure in scores.groupby("structure"):
        known = of_structure.dropna()
        if len(known) < quality.MIN_CASES:
            continue
        line, true = lines[str(name)], known["dice"].to_numpy()
        value, low, high = np.array([quality.predicted_dice(soft, line) for soft in known["soft"]]).T
        result[str(name)] = {
            "films": len(known),
            "covered": float(((low <= true) & (true <= high)).mean()),
            "width": float(np.median(high - low)),
            "rank_correlation": float(stats.spearmanr(value, true).statistic),
            "predicted": float(value.mean()),
            "true": float(true.mean()),
        }
    return result


def main() -> None:
    """Calibrate, or test and write JSON."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=("calibrate", "test"))
    parser.add_argument("bones", type=Path, nargs="?")
    parser.add_argument("script", type=Path, nargs="?")
    parser.add_argument("--workdir", type=Path)
    parser.add_argument("--checkpoint", default="phantom")
    parser.add_argument("--cases", type=int, default=300, help="phantoms of each kind")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "predicted_dice.json")
    options = parser.parse_args()
    about = weights.FOLDER / f"{options.checkpoint}.json"
    if options.what == "calibrate":
        description = json.loads(about.read_text()) | {
            "quality": calibrate(options.checkpoint, options.cases)
        }
        atomic.write_json(about, description)
        return
    lines = quality.read_calibration(json.loads(about.read_text())["quality"]).lines
    predictor = load(options.checkpoint)
    sets = {
        name: measure(predictor, phantoms(name, options.checkpoint, options.cases))
        for name in phantom_scores.SETS
    }
    if options.bones:
        folders = [
            real_bones.films(options.bones, options.script, options.workdir, seed, real_bones.FILMS)
            for seed in (0, 1)
        ]
        sets["real bones"] = measure(predictor, films_of_bones(folders))
    result = {name: coverage(scores, lines) for name, scores in sets.items()}
    about_sets = {"checkpoint": options.checkpoint, "cases": options.cases, "coverage": quality.COVERAGE}
    for name, scores in result.items():
        print(f"{name}\n{pd.DataFrame(scores).T.round(3)}", flush=True)
    atomic.write_json(options.out, conditions() | about_sets | {"sets": result})


if __name__ == "__main__":
    main()
