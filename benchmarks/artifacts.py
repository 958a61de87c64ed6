"""How well exported artifacts agree with `kneefair predict --raw`, and how long they take.

    python -m benchmarks.artifacts [--checkpoint phantom] [--films 4]

Films are phantoms with noise at three sizes, as 8 bits, as 16 bits and as float. Each artifact runs in a process in
which this package cannot be imported. Reported are the largest difference of a probability on the working grid, the
share of pixels whose label differs, and the seconds of a film after the first of its size. Beside them: the share of
pixels that the cleaning of `predict`, which artifacts leave out, changes.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import jax
import numpy as np
from PIL import Image

from benchmarks.machine import conditions, user_environment
from kneefair_jax import predict
from kneefair_jax.data import phantom
from kneefair_jax.export import artifacts
from kneefair_jax.runtime import atomic

SIZES = ((400, 512), (1100, 820), (3000, 2500))
TYPES = ("uint8", "uint16", "float32")
READER = """
import sys, time
sys.modules["kneefair_jax"] = None
import numpy as np
kind, artifact, films, out = sys.argv[1:]
if kind == "onnx":
    import onnxruntime
    session = onnxruntime.InferenceSession(artifact, providers=["CPUExecutionProvider"])
    def run(image, is_eight_bit):
        return session.run(None, {"image": image, "is_eight_bit": is_eight_bit})
else:
    from jax import export
    program = export.deserialize(bytearray(open(artifact, "rb").read()))
    def run(image, is_eight_bit):
        return [np.asarray(part) for part in program.call(image, is_eight_bit)]
found = {}
for name, pixels in np.load(films).items():
    start = time.perf_counter()
    both = run(pixels[None].astype(np.float32), np.array(pixels.dtype == np.uint8))
    found[name + "/seconds"] = time.perf_counter() - start
    found[name + "/probabilities"], found[name + "/mask"] = (part[0] for part in both)
np.savez(out, **found)
"""


def film(size: tuple[int, int], dtype: str, seed: int) -> np.ndarray:
    """A phantom with noise, [H, W]."""
    small = jax.device_get(phantom.draw_case(jax.random.key(seed), size=(256, 256), fov_mm=200.0).image)
    smooth = Image.fromarray(np.asarray(small, np.float32).reshape(256, 256)).resize(
        size[::-1], Image.Resampling.BICUBIC
    )
    pixels = np.asarray(smooth) + np.random.default_rng(seed).normal(0, 2, size)
    if dtype == "uint8":
        return np.clip(np.rint(pixels), 0, 255).astype(np.uint8)
    if dtype == "uint16":
        return np.clip(np.rint(pixels * 14 + 300), 0, 65535).astype(np.uint16)
    return (pixels / 300 - 0.1).astype(np.float32)


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--checkpoint", default="phantom")
    parser.add_argument("--films", type=int, default=4, help="of each size and type")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "artifacts.json")
    options = parser.parse_args()
    raw, clean = predict.load(options.checkpoint, raw=True), predict.load(options.checkpoint)
    cases = [
        (f"{height} x {width}", dtype, seed, film((height, width), dtype, seed))
        for height, width in SIZES
        for dtype in TYPES
        for seed in range(options.films)
    ]
    expected = [(raw.probabilities([pixels])[0], raw([pixels])[0]) for *_, pixels in cases]
    cleaned = [
        float((clean([pixels])[0] != mask).mean())
        for (*_, pixels), (_, mask) in zip(cases, expected, strict=True)
    ]
    results: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        films: dict[str, Any] = {str(number): pixels for number, (*_, pixels) in enumerate(cases)}
        np.savez(folder / "films.npz", **films)
        for kind in artifacts.FORMATS:
            (path,) = artifacts.export([options.checkpoint], folder, "network", kind, half=True)
            words = [kind, str(path), str(folder / "films.npz"), str(folder / f"{kind}.npz")]
            subprocess.run(
                [sys.executable, "-c", READER, *words], check=True, env=user_environment(), cwd=folder
            )
            found = np.load(folder / f"{kind}.npz")
            results[kind] = {"bytes": path.stat().st_size, "films": []}
            for number, ((size, dtype, seed, _), (probabilities, mask)) in enumerate(
                zip(cases, expected, strict=True)
            ):
                results[kind]["films"].append(
                    {
                        "size": size,
                        "type": dtype,
                        "seed": seed,
                        "probability": float(np.abs(found[f"{number}/probabilities"] - probabilities).max()),
                        "pixels": float((found[f"{number}/mask"] != mask).mean()),
                        "seconds": float(found[f"{number}/seconds"]),
                    }
                )
    report = {"conditions": conditions(), "checkpoint": options.checkpoint, "formats": results}
    atomic.write_json(options.out, report | {"changed_by_cleaning": float(np.mean(cleaned))})
    print(json.dumps(summary(report), indent=1))


def summary(report: dict[str, Any]) -> dict[str, Any]:
    """The worst agreement and the median time after the first film of a size, by format and size."""
    return {
        kind: {
            size: {
                "probability": max(row["probability"] for row in rows),
                "pixels": max(row["pixels"] for row in rows),
                "seconds": float(np.median([row["seconds"] for row in rows if row["seed"]])),
            }
            for size in dict.fromkeys(row["size"] for row in result["films"])
            for rows in [[row for row in result["films"] if row["size"] == size]]
        }
        for kind, result in report["formats"].items()
    }


if __name__ == "__main__":
    main()
