"""What the cleaning of predictions changes (`kneefair_jax.predict.cleaning`): Dice with and without it.

    python -m benchmarks.cleaning [--films_dir DIR] [--checkpoint phantom-v1 phantom]

On unseen phantoms of the sets of `benchmarks.phantom_scores`, and on the folders of DIR as `benchmarks.real_bones`
projects them. Cases in which cleaning costs more than 0.001 of a bone's Dice are counted, with the largest loss.
"""

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from benchmarks import phantom_scores, real_bones
from benchmarks.machine import conditions
from kneefair_jax import anatomy, metrics
from kneefair_jax.predict import Predictor
from kneefair_jax.runtime import atomic

BONES = anatomy.SCHEMES["knee"]
LOSS = 0.001  # of Dice


def of_phantoms(predictor: Predictor, images: np.ndarray, labels: np.ndarray) -> pd.DataFrame:
    """Dice of each phantom, a column a bone: a bone in front hides the one behind it."""
    truth = anatomy.translation(anatomy.SCHEMES["knee_overlaps"], BONES)[labels]
    counts = metrics.overlap(np.stack(predictor(list(images))), truth, len(BONES))
    return pd.DataFrame(np.asarray(metrics.dice(counts)), columns=list(BONES))


def compare(raw: pd.DataFrame, cleaned: pd.DataFrame) -> dict[str, Any]:
    """Means by bone without and with cleaning, and the cases that gain and lose."""
    change = cleaned - raw
    return {
        bone: {
            "raw": float(raw[bone].mean()),
            "cleaned": float(cleaned[bone].mean()),
            "better": int((change[bone] > LOSS).sum()),
            "worse": int((change[bone] < -LOSS).sum()),
            "largest gain": float(change[bone].max()),
            "largest loss": float(-change[bone].min()),
            "films": int(change[bone].count()),
        }
        for bone in raw
    }


def main() -> None:
    """Print the comparison and write it as JSON."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--films_dir", type=Path, help="with seed0, seed1, ... of benchmarks.real_bones")
    parser.add_argument("--checkpoint", nargs="+", default=["phantom-v1", "phantom"])
    parser.add_argument("--films", type=int, default=200, help="phantoms of each set")
    parser.add_argument("--side", type=int, default=256)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "cleaning.json")
    options = parser.parse_args()
    result: dict[str, Any] = {
        **conditions(),
        "side": options.side,
    }
    for checkpoint in options.checkpoint:
        networks = [real_bones.load(checkpoint, raw=raw) for raw in (True, False)]
        entries = result[checkpoint] = {}
        for name in phantom_scores.SETS:
            images, labels = phantom_scores.films(name, options.films, options.side)
            entries[name] = compare(*(of_phantoms(network, images, labels) for network in networks))
            print(checkpoint, name, entries[name], flush=True)
        if options.films_dir:
            scores = [
                pd.concat([real_bones.score(network, options.films_dir / f"seed{seed}") for seed in (0, 1)])
                for network in networks
            ]
            entries["real bones"] = compare(*(frame.reset_index(drop=True) for frame in scores))
            print(checkpoint, "real bones", entries["real bones"], flush=True)
    atomic.write_json(options.out, result)


if __name__ == "__main__":
    main()
