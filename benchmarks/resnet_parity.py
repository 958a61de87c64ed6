r"""Compare the features of a ResNet with PyTorch's for the same weights: they must agree to 1e-4 of their scale.

    python benchmarks/resnet_parity.py --torch_python=PYTHON_WITH_TORCH

PyTorch draws weights and batch statistics, saves them under torchvision's names and runs them; this package loads the
file and runs it on the same images: of three channels, and grey ones, which PyTorch sees three times and the network
here once. The torch environment is one of its own: pip install torch==2.13.0 numpy safetensors, and torchvision to
compare with it as well.
"""

import argparse
import importlib.metadata
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from safetensors.numpy import load_file

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.machine import hardware
from kneefair_jax import models
from kneefair_jax.runtime import atomic, run_directory
from kneefair_jax.weights import warm_start

TOLERANCE = 1e-4
NETWORKS = ("resnet18", "resnet34")


def images() -> dict[str, np.ndarray]:
    """Standardised noise f32[B, 3, H, W] by name; the grey ones have three equal channels."""
    rng = np.random.default_rng(0)
    images_by_name = {
        "colour 224x224": rng.normal(size=(2, 3, 224, 224)),
        "grey 224x224": rng.normal(size=(2, 1, 224, 224)).repeat(3, axis=1),
        "grey 97x130": rng.normal(size=(1, 1, 97, 130)).repeat(3, axis=1),
    }
    return {name: image.astype(np.float32) for name, image in images_by_name.items()}


def features(weights: Path, network: str, image: np.ndarray) -> list[np.ndarray]:
    """What this package makes of f32[B, H, W, C]."""
    model = models.create({"name": f"{network}_unet"}, classes=2)
    variables = jax.eval_shape(model.init, jax.random.key(0), image)
    pretrained = warm_start.load_imagenet(weights, variables)
    encoder = models.ResNetEncoder(model.blocks)
    with jax.default_matmul_precision("float32"):
        run = jax.jit(encoder.apply)
        return run({kind: tree["encoder"] for kind, tree in pretrained.items()}, jnp.asarray(image))


def compare(folder: Path) -> dict[str, list[float]]:
    """Largest absolute difference of each map over the root mean square of PyTorch's, by network and image."""
    differences = {}
    for network in NETWORKS:
        for name, image in images().items():
            torch_features = load_file(folder / f"{network}_{name}.safetensors")
            channels = 1 if name.startswith("grey") else 3
            image = image.transpose(0, 2, 3, 1)[..., :channels]
            features_here = features(folder / f"{network}.safetensors", network, image)
            differences[f"{network}, {name}"] = [
                _difference(
                    np.asarray(features_here[level]), torch_features[str(level)].transpose(0, 2, 3, 1)
                )
                for level in range(5)
            ]
    return differences


def main() -> None:
    """Prints what it finds and writes it as JSON; ends with status 1 where the features differ."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--torch_python", required=True, help="a Python with torch and safetensors")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "resnet_parity.json")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for title, image in images().items():
            np.save(folder / f"{title}.npy", image)
        script = Path(__file__).with_name("torch_resnet.py")
        answer = subprocess.run(
            [options.torch_python, str(script), str(folder)], stdout=subprocess.PIPE, text=True, check=True
        )
        differences = compare(folder)
    largest = max(max(values) for values in differences.values())
    result = {
        "what": "largest difference of the five feature maps, over the root mean square of PyTorch's",
        "hardware": hardware(),
        "environment": run_directory.environment(),
        "safetensors": importlib.metadata.version("safetensors"),
        "pytorch": json.loads(answer.stdout),
        "differences": differences,
        "largest": largest,
        "tolerance": TOLERANCE,
    }
    options.out.parent.mkdir(parents=True, exist_ok=True)
    atomic.write_json(options.out, result)
    for title, values in differences.items():
        print(f"{title:30s}", *(f"{value:9.1e}" for value in values))
    if not largest < TOLERANCE:
        raise SystemExit(f"the features differ by {largest:.1e}, more than {TOLERANCE:g}")


def _difference(value: np.ndarray, reference: np.ndarray) -> float:
    assert value.shape == reference.shape
    return float(np.abs(value - reference).max() / np.sqrt(np.square(reference).mean()))


if __name__ == "__main__":
    main()
