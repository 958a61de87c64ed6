r"""Time HD95, ASSD and NSD of 500 cases x 4 structures at 256 x 256: this package, MONAI and surface-distance.

    python benchmarks/surface.py --peer_python=PYTHON_WITH_MONAI_AND_SURFACE_DISTANCE

Phantom knees and predictions warped by some pixels. Rounds alternate between all; the shortest time of each counts,
since other programs only add to it. Beside them other ways to the same numbers (`surface_ways.py`); the distance
transform in JAX runs on 8 cases, after its compilation. `monai` is its three functions, as it documents them;
`monai_once` its distances taken once, from which the three scores follow.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks import surface_masks, surface_ways
from benchmarks.machine import hardware
from benchmarks.surface_masks import Masks
from kneefair_jax import metrics
from kneefair_jax.runtime import atomic, run_directory

FEW = 8


def library_scores(masks: Masks) -> np.ndarray:
    """f64[N, S, 3]."""
    scores = metrics.surface_distances(masks.prediction, masks.truth, masks.structures, masks.spacing)
    return np.stack(list(scores.values()), axis=-1)


def seconds(way: Callable[[Masks], np.ndarray], masks: Masks, expected: np.ndarray) -> float:
    """Time per case of one run, whose scores must be the expected ones, to f32."""
    start = time.perf_counter()
    scores = way(masks)
    passed = time.perf_counter() - start
    np.testing.assert_allclose(scores, expected, rtol=1e-4, atol=1e-4)
    return passed / len(masks.truth)


def measure(masks: Masks, rounds: int, python: str | None = None) -> dict[str, Any]:
    """Seconds per case of each way and of the peers, round by round, and by how much the shortest of each differ."""
    few = Masks(*(part[:FEW] for part in masks[:3]), masks.structures)
    expected = library_scores(masks)
    surface_ways.jax_transform(few)
    times: dict[str, list[float]] = {}
    peers: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        np.savez(Path(folder) / "knees.npz", **masks._asdict())
        command = [str(python), str(Path(__file__).with_name("peer_surface.py")), folder]
        for _ in range(rounds):
            seconds_by_name = {"ours": seconds(library_scores, masks, expected)}
            for way in (surface_ways.tree_per_structure, surface_ways.distance_transform):
                seconds_by_name[way.__name__] = seconds(way, masks, expected)
            seconds_by_name["jax_transform"] = seconds(surface_ways.jax_transform, few, expected[:FEW])
            if python:
                answer = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
                peers = json.loads(answer.stdout)
                seconds_by_name |= {k: v / len(masks.truth) for k, v in peers.pop("seconds")["knees"].items()}
            for name, value in seconds_by_name.items():
                times.setdefault(name, []).append(value)
    best = {name: min(values) for name, values in times.items()}
    return {
        "seconds_per_case": best,
        "times_as_long_as_ours": {name: value / best["ours"] for name, value in best.items()},
        "rounds": times,
        "peers": peers,
    }


def main() -> None:
    """Prints what it finds and writes it as JSON."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--peer_python", required=True, help="a Python with monai and surface-distance")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "surface.json")
    parser.add_argument("--cases", type=int, default=500)
    parser.add_argument("--side", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    masks = surface_masks.knees(options.cases, options.side)
    results = measure(masks, options.rounds, options.peer_python)
    about = {
        "hardware": hardware(),
        "environment": run_directory.environment(),
        "load_average": os.getloadavg(),
        "cases": options.cases,
        "structures": masks.structures,
        "side": options.side,
    }
    options.out.parent.mkdir(parents=True, exist_ok=True)
    atomic.write_json(options.out, about | results)
    for name, value in results["seconds_per_case"].items():
        ratio = results["times_as_long_as_ours"][name]
        print(f"{name:20s} {1000 * value:8.2f} ms a case {ratio:7.1f} times as long as ours")


if __name__ == "__main__":
    main()
