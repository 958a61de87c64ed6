r"""Compare HD95, ASSD and NSD with MONAI's and surface-distance's: to 1e-5 where they must agree.

    python benchmarks/surface_parity.py --peer_python=PYTHON_WITH_MONAI_AND_SURFACE_DISTANCE

MONAI must agree on all masks that are there and do not touch the image's border, to f32. surface-distance draws its
surface through the corners of pixels and weighs it by length: its HD95 must agree where all outlines are straight
(shifted squares); elsewhere the difference is shown, in pixels. By how much both differ where structures touch the
border is shown too. Why is said in `kneefair_jax/metrics/surface.py`.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks import surface_masks
from benchmarks.machine import hardware
from benchmarks.surface_masks import Masks
from kneefair_jax import metrics
from kneefair_jax.runtime import atomic, run_directory

TOLERANCE = 1e-5
SCORES = ("hd95_mm", "assd_mm", "nsd")


def sets() -> dict[str, Masks]:
    """Masks by name; only of `knees at the border` do structures touch it."""
    knees = surface_masks.knees(40, 128)
    return {
        "knees": knees.padded(),
        "blobs": surface_masks.noise(100, 48, 3.0).padded(),
        "pixels": surface_masks.noise(50, 20, 0.0).padded(),
        "adversarial": surface_masks.adversarial(),
        "shifted squares": surface_masks.shifted_squares(),
        "knees at the border": knees,
    }


def run_peer(python: str, masks: dict[str, Masks], folder: Path, *libraries: str) -> dict[str, Any]:
    """What `peer_surface.py` prints; its scores lie in the folder."""
    for name, pair in masks.items():
        np.savez(folder / f"{name}.npz", **pair._asdict())
    command = [python, str(Path(__file__).with_name("peer_surface.py")), str(folder), *libraries]
    return json.loads(subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout)


def compare(masks: Masks, peer: np.ndarray) -> dict[str, dict[str, float]]:
    """Differences of each score from f64[N, S, 3], of what both have: relative to max(1, score), and in pixels."""
    scores = metrics.surface_distances(masks.prediction, masks.truth, masks.structures, masks.spacing)
    differences = {}
    for k, score in enumerate(SCORES):
        comparable = np.isfinite(scores[score]) & np.isfinite(peer[..., k])
        difference = np.abs(scores[score] - peer[..., k])
        pixel = 1 if score == "nsd" else np.sqrt(masks.spacing.prod(1))[:, None]
        differences[score] = {
            "compared": int(comparable.sum()),
            "largest": float((difference / np.maximum(1, scores[score]))[comparable].max()),
            "largest_in_pixels": float((difference / pixel)[comparable].max()),
            "mean_in_pixels": float((difference / pixel)[comparable].mean()),
        }
    return differences


def main() -> None:
    """Prints what it finds and writes it as JSON; ends with status 1 where scores differ that should not."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--peer_python", required=True, help="a Python with monai and surface-distance")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "surface_parity.json")
    options = parser.parse_args()
    masks = sets()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        peer = run_peer(options.peer_python, masks, folder, "monai", "surface-distance")
        differences = {
            library: {
                title: compare(pair, np.load(folder / f"{title}_{library}.npy"))
                for title, pair in masks.items()
            }
            for library in ("monai", "surface-distance")
        }
    largest = {
        "monai": max(
            differences["monai"][title][score]["largest"]
            for title in masks
            if title != "knees at the border"
            for score in SCORES
        ),
        "surface-distance": differences["surface-distance"]["shifted squares"]["hd95_mm"]["largest"],
    }
    result = {
        "what": "HD95, ASSD, NSD at 1 mm: differences; `largest` over max(1, score), others over a pixel's side",
        "hardware": hardware(),
        "environment": run_directory.environment(),
        "peers": peer["versions"],
        "differences": differences,
        "largest_where_they_should_agree": largest,
        "tolerance": TOLERANCE,
    }
    options.out.parent.mkdir(parents=True, exist_ok=True)
    atomic.write_json(options.out, result)
    print(f"{'':48s} {'pairs':>6s} {'largest':>9s} {'pixels':>9s} {'mean':>9s}")
    for library, by_set in differences.items():
        for title, scores in by_set.items():
            for score, values in scores.items():
                text = f"{library}, {title}, {score}"
                compared, *numbers = values.values()
                print(f"{text:48s} {compared:6d}", *(f"{number:9.1e}" for number in numbers))
    for library, difference in largest.items():
        print(f"largest difference where {library} should agree: {difference:.1e}")
    if not max(largest.values()) < TOLERANCE:
        raise SystemExit(f"the scores differ by more than {TOLERANCE:g}")


if __name__ == "__main__":
    main()
