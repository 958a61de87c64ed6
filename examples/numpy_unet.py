"""The forward pass of a shipped or exported U-Net in plain numpy, from its two files; a check of every other format.

    python examples/numpy_unet.py kneefair_jax/weights/phantom.safetensors

It is written to be read, not to be fast. Needs numpy and safetensors.
"""

import json
import sys
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file


def probabilities(path: Path, image: np.ndarray) -> np.ndarray:
    """Return f64[h, w, C], background first, of u8[h, w, c] as large as the working grid."""
    about = json.loads(path.with_suffix(".json").read_text())
    weights = {name: tensor.astype(np.float64) for name, tensor in load_file(path).items()}
    network = about["network"]
    pixels = image / 255
    x = (pixels - pixels.mean()) / (pixels.std() + about["input"]["epsilon"])
    patch = 2 if network.get("stem") == "patch2" else 1
    levels = len(network.get("widths", (16, 32, 64, 128)))
    multiple = patch * 2 ** (levels - 1)
    x = np.pad(x, [*((0, -length % multiple) for length in x.shape[:2]), (0, 0)], mode="edge")
    x = patches(x, patch)
    skips = []
    for level in range(levels):
        if level:
            skips.append(x)
            x = patches(x, 2).reshape(*(length // 2 for length in x.shape[:2]), 4, -1).max(2)
        x = block(x, weights, f"encoder_{level}")
    for level in reversed(range(levels - 1)):
        x = np.concatenate([skips[level], upsample(x, weights, f"up_{level}")], axis=-1)
        x = block(x, weights, f"decoder_{level}")
    if patch > 1:
        x = np.maximum(upsample(x, weights, "up_stem"), 0)
    logits = x @ weights["params/head/kernel"] + weights["params/head/bias"]
    e = np.exp(logits - logits.max(-1, keepdims=True))[: image.shape[0], : image.shape[1]]
    return e / e.sum(-1, keepdims=True)


def block(x: np.ndarray, weights: dict[str, np.ndarray], name: str) -> np.ndarray:
    """Return 3 x 3 convolutions, each with normalization and ReLU."""
    number = 0
    while (kernel := weights.get(f"params/{name}/Conv_{number}/kernel")) is not None:
        padded = np.pad(x, ((1, 1), (1, 1), (0, 0)))
        height, width = x.shape[:2]
        x = sum(padded[i : i + height, j : j + width] @ kernel[i, j] for i in range(3) for j in range(3))
        layer = f"{name}/Normalisation_{number}"
        if f"params/{layer}/BatchNorm_0/scale" in weights:
            kind = "BatchNorm_0"
            mean, variance = (weights[f"batch_stats/{layer}/{kind}/{part}"] for part in ("mean", "var"))
            x = (x - mean) / np.sqrt(variance + 1e-5)
        else:
            kind = "GroupNorm_0"
            groups = next(g for g in (8, 4, 2, 1) if x.shape[-1] % g == 0)
            grouped = x.reshape(height, width, groups, -1)
            mean, variance = (f(grouped, axis=(0, 1, 3), keepdims=True) for f in (np.mean, np.var))
            x = ((grouped - mean) / np.sqrt(variance + 1e-6)).reshape(x.shape)
        x = x * weights[f"params/{layer}/{kind}/scale"] + weights[f"params/{layer}/{kind}/bias"]
        x = np.maximum(x, 0)
        number += 1
    return x


def upsample(x: np.ndarray, weights: dict[str, np.ndarray], name: str) -> np.ndarray:
    """Return twice the height and width: each pixel becomes 2 x 2 by a dense layer."""
    height, width = x.shape[:2]
    x = x @ weights[f"params/{name}/Dense_0/kernel"] + weights[f"params/{name}/Dense_0/bias"]
    return x.reshape(height, width, 2, 2, -1).swapaxes(1, 2).reshape(2 * height, 2 * width, -1)


def patches(x: np.ndarray, side: int) -> np.ndarray:
    """Return the pixels of each patch as channels."""
    height, width, channels = x.shape
    x = x.reshape(height // side, side, width // side, side, channels).swapaxes(1, 2)
    return x.reshape(height // side, width // side, side * side * channels)


if __name__ == "__main__":
    file = Path(sys.argv[1])
    grid = json.loads(file.with_suffix(".json").read_text())["grid"]
    film = np.random.default_rng(0).integers(0, 256, grid, dtype=np.uint8)
    print(f"mean probabilities of noise: {probabilities(file, film).mean((0, 1)).round(4)}")
