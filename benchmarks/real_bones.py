"""Score a network on radiographs that are projected from surfaces of real bones (Dice).

    python benchmarks/real_bones.py BONES PROJECT.py [--checkpoint phantom] [--seeds 0 1]

BONES is a folder of bone surfaces (`*.npz`, see PROJECT.py), PROJECT.py the script that makes films of them:
`python PROJECT.py BONES OUT --films 8 --seed 0` writes `OUT/images`, `OUT/masks`, `OUT/outlines` and
`OUT/metadata.csv`. The films of a seed are kept in `--films-dir`. Scores are at the films' own size. Neither the bones
nor the films are training data.
"""

import argparse
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.machine import hardware
from kneefair_jax import anatomy, predict, weights
from kneefair_jax.predict import Predictor
from kneefair_jax.runtime import atomic, run_directory

FILMS = 8  # of each knee
# Score -> the whole bone of a network with overlap classes, and the structure or union of another network, which draws
# tibia and patella in front; the femur beside the patella is exclusive.
BONES = {
    "whole femur": ("whole femur", "whole femur"),
    "tibia": ("whole tibia", "tibia"),
    "whole patella": ("whole patella", "patella"),
    "exclusive femur": ("", "femur"),
}


def load(checkpoint: str | Path, **options: Any) -> Predictor:
    """Load a network by options of `predict.load`, with the outlines of whole bones if it has overlap classes."""
    structures = next(iter(weights.load_by_group(checkpoint).values())).about["structures"]
    return predict.load(checkpoint, outlines=bool(anatomy.whole_bones(structures)), batch_size=8, **options)


def films(bones: Path, script: Path, folder: Path, seed: int, count: int) -> Path:
    """Return the folder of a seed's films, and project them if it is not there."""
    out = folder / f"seed{seed}"
    if not (out / "metadata.csv").exists():
        command = [sys.executable, script, bones, out, "--films", str(count), "--seed", str(seed)]
        subprocess.run([str(part) for part in command], check=True)
    return out


def score(predictor: Predictor, folder: Path, width: float = 1.0) -> pd.DataFrame:
    """Dice of each film of a folder: a row a film, a column a bone; NaN where a bone is in neither mask.

    Args:
        predictor: the network.
        folder: of `films`.
        width: share of a film's columns, in its middle, that is kept.
    """
    cases = pd.read_csv(folder / "metadata.csv", dtype=str)
    images = [_middle(np.asarray(Image.open(folder / path)), width) for path in cases["image"]]
    names = [structure for _, structure in BONES.values()]
    members = dict(zip(BONES, anatomy.membership(predictor.structures, names), strict=True))
    rows = []
    for case, path, predicted in zip(
        cases["case_id"], cases["mask"], predictor.predict(images, warn=False), strict=True
    ):
        outlines = np.load(folder / "outlines" / f"{case}.npz")
        truth = {
            "whole femur": outlines["femur"],
            "tibia": outlines["tibia"],
            "whole patella": outlines["patella"],
            "exclusive femur": np.asarray(Image.open(folder / path)) == 1,
        }
        truth = {bone: _middle(mask, width) for bone, mask in truth.items()}
        masks = {
            bone: predicted.outlines[whole].mask
            if whole in predicted.outlines
            else members[bone][predicted.mask]
            for bone, (whole, _) in BONES.items()
        }
        rows.append({bone: dice(masks[bone], truth[bone]) for bone in BONES})
    return pd.DataFrame(rows, index=pd.Index(cases["case_id"], name="case_id"))


def _middle(image: np.ndarray, width: float) -> np.ndarray:
    columns = round(width * image.shape[1])
    first = (image.shape[1] - columns) // 2
    return image[:, first : first + columns]


def dice(prediction: np.ndarray, truth: np.ndarray) -> float:
    """Return the Dice coefficient of two masks, bool[H, W] each; NaN where both are empty."""
    size = prediction.sum() + truth.sum()
    return float(2 * (prediction & truth).sum() / size) if size else float("nan")


def summary(scores: pd.DataFrame) -> dict[str, dict[str, Any]]:
    """Return mean, 5th percentile and worst Dice by bone, with the worst film's name and the number of films."""
    return {
        bone: {
            "mean": float(values.mean()),
            "percentile_5": float(values.quantile(0.05)),
            "worst": float(values.min()),
            "worst_case": str(values.idxmin()),
            "films": int(values.count()),
        }
        for bone, values in scores.items()
    }


def table(results: Mapping[str, Mapping[str, Any]]) -> str:
    """Return a text table, a line a bone."""
    lines = [f"{'':16s} {'mean':>7s} {'5th %':>7s} {'worst':>7s}  films"]
    lines += [
        f"{bone:16s} {entry['mean']:7.4f} {entry['percentile_5']:7.4f} {entry['worst']:7.4f}  {entry['films']}"
        for bone, entry in results.items()
    ]
    return "\n".join(lines)


def main() -> None:
    """Print the scores and write them as JSON."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("bones", type=Path)
    parser.add_argument("script", type=Path)
    parser.add_argument("--checkpoint", default="phantom")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--films", type=int, default=FILMS, help="of each knee")
    parser.add_argument("--films-dir", type=Path, help="keeps the films; default: a temporary folder")
    parser.add_argument("--flip", action="store_true", help="mean with the flipped film")
    parser.add_argument("--fit", default="", help="of predict")
    parser.add_argument("--width", type=float, default=1.0, help="share of the films' columns to keep")
    parser.add_argument("--raw", action="store_true", help="keep small pieces and holes")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "real_bones.json")
    options = parser.parse_args()
    predictor = load(options.checkpoint, flip=options.flip, raw=options.raw, fit=options.fit)
    with tempfile.TemporaryDirectory() as scratch:
        folder = options.films_dir or Path(scratch)
        seeds = [films(options.bones, options.script, folder, seed, options.films) for seed in options.seeds]
        scores = pd.concat([score(predictor, seed, options.width) for seed in seeds], keys=options.seeds)
    scores.index = [f"seed {seed}, {case}" for seed, case in scores.index]
    results = summary(scores)
    print(table(results))
    about = {"hardware": hardware(), "environment": run_directory.environment()}
    settings = {
        "checkpoint": Path(options.checkpoint).name,
        "seeds": options.seeds,
        "flip": options.flip,
        "raw": options.raw,
        "fit": predictor.fit,
        "width": options.width,
    }
    options.out.parent.mkdir(parents=True, exist_ok=True)
    atomic.write_json(options.out, about | settings | {"dice": results})


if __name__ == "__main__":
    main()
