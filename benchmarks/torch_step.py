"""PyTorch's training step on the same networks; `benchmarks/train_step.py` starts it with a Python that has torch.

    python -m benchmarks.torch_step

One JSON object a line on standard input is one command, and each is answered by one line:

* `{"command": "build", "key": K, "file": F, "network": {...}, "dtype": D, "compile": C}` builds a step from the
  parameters and the batch of a safetensors file and makes one update -> `first_seconds`, `loss`, `gradient_norm`.
* `{"command": "time", "key": K, "steps": N}` makes N updates -> `milliseconds` of one, `peak_bytes` (GPU alone).
* `{"command": "time_forward", "key": K, "passes": N}` makes N forward passes at test time, without `torch.compile`
  -> `milliseconds` of one.
* `{"command": "free"}` drops all steps.

An error is answered as `{"error": TEXT}`. It needs torch, safetensors and NumPy alone.
"""

import gc
import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import nn

from benchmarks.torch_resnet import BLOCKS, ResNet, features

CUDA = torch.cuda.is_available()
DEVICE = torch.device("cuda" if CUDA else "cpu")
EPSILON = 1e-3  # of `models.standardize`
SMOOTH = 0.5  # half of `losses.SMOOTH`, as in `losses.tversky`


class ConvBlock(nn.Module):
    """Twice (3 x 3 convolution, batch normalization, ReLU); submodules are called as in flax."""

    def __init__(self, inputs: int, outputs: int):
        super().__init__()
        self.Conv_0 = nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)
        self.Normalisation_0 = nn.BatchNorm2d(outputs)
        self.Conv_1 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.Normalisation_1 = nn.BatchNorm2d(outputs)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """f[B, inputs, H, W] -> f[B, outputs, H, W]."""
        x = F.relu(self.Normalisation_0(self.Conv_0(x)))
        return F.relu(self.Normalisation_1(self.Conv_1(x)))


class UNet(nn.Module):
    """`kneefair_jax.models.UNet` as it is usually written in PyTorch."""

    def __init__(self, classes: int, widths: list[int]):
        super().__init__()
        self.depth = len(widths)
        for level, width in enumerate(widths):
            self.add_module(f"encoder_{level}", ConvBlock(widths[level - 1] if level else 1, width))
        for level in range(self.depth - 1):
            self.add_module(f"up_{level}", nn.ConvTranspose2d(widths[level + 1], widths[level], 2, 2))
            self.add_module(f"decoder_{level}", ConvBlock(2 * widths[level], widths[level]))
        self.head = nn.Conv2d(widths[0], classes, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """f[B, 1, H, W] -> logits f[B, classes, H, W]."""
        skips = []
        for level in range(self.depth):
            if level:
                skips.append(x)
                x = F.max_pool2d(x, 2)
            x = getattr(self, f"encoder_{level}")(x)
        for level in reversed(range(self.depth - 1)):
            x = torch.cat([skips[level], getattr(self, f"up_{level}")(x)], 1)
            x = getattr(self, f"decoder_{level}")(x)
        return self.head(x)


class ResNetUNet(nn.Module):
    """`kneefair_jax.models.ResNetUNet` of one input channel."""

    def __init__(self, classes: int, blocks: tuple[int, ...], widths: list[int]):
        super().__init__()
        self.encoder = ResNet(blocks)
        self.encoder.conv1 = nn.Conv2d(1, 64, 7, 2, 3, bias=False)
        self.encoder.fc = nn.Identity()
        inputs = 512
        for level, skip in zip(reversed(range(5)), (256, 128, 64, 64, 0), strict=True):
            self.add_module(f"decoder_{level}", ConvBlock(inputs + skip, widths[level]))
            inputs = widths[level]
        self.head = nn.Conv2d(widths[0], classes, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """f[B, 1, H, W], sizes multiples of 32 -> logits f[B, classes, H, W]."""
        *skips, x = features(self.encoder, x).values()
        for level in reversed(range(5)):
            x = F.interpolate(x, scale_factor=2, mode="nearest")
            x = getattr(self, f"decoder_{level}")(torch.cat([skips[level - 1], x], 1) if level else x)
        return self.head(x)


def create(network: dict[str, Any], classes: int) -> nn.Module:
    """The network of a config's `model` section."""
    if network["name"] == "unet":
        return UNet(classes, network["widths"])
    return ResNetUNet(classes, BLOCKS[network["name"].removesuffix("_unet")], network["widths"])


def standardize(image: torch.Tensor) -> torch.Tensor:
    """u8[B, 1, H, W], or f32 in [0, 1], -> f32 with mean 0 and variance 1 in each image."""
    image = image.float() / 255 if image.dtype == torch.uint8 else image
    mean = image.mean((1, 2, 3), keepdim=True)
    return (image - mean) / (image.std((1, 2, 3), keepdim=True, correction=0) + EPSILON)


def dice_cross_entropy(logits: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
    """`losses.dice_cross_entropy`, averaged over the batch: f[B, C, H, W], i64[B, H, W] -> f32[]."""
    logits = logits.float()
    entropy = F.cross_entropy(logits, label)
    probability = logits.softmax(1)[:, 1:]
    truth = F.one_hot(label, logits.shape[1]).permute(0, 3, 1, 2)[:, 1:].float()
    overlap = (probability * truth).sum((2, 3))
    area = probability.sum((2, 3)) + truth.sum((2, 3))
    return entropy + 1 - ((overlap + SMOOTH) / (area / 2 + SMOOTH)).mean()


def step_of(
    network: dict[str, Any], arrays: dict[str, torch.Tensor], dtype: str, compiled: bool
) -> tuple[Callable[[], tuple[torch.Tensor, torch.Tensor]], Callable[[], torch.Tensor]]:
    """A function that makes one update and returns loss and gradient norm, and one that returns logits at test time.

    Args:
        network: the config's `model` section.
        arrays: `image` u8[B, 1, H, W], `label` u8[B, H, W] and the network's state dict.
        dtype: "float32", or "bfloat16" for autocast.
        compiled: whether forward, loss and backward go through `torch.compile`.

    Raises:
        ValueError: the parameters do not fit the network.
    """
    image, label = (arrays.pop(name).to(DEVICE) for name in ("image", "label"))
    model = create(network, classes=5)
    missing, unexpected = model.load_state_dict(arrays, strict=False)
    missing = [name for name in missing if not name.endswith(("running_mean", "running_var", "tracked"))]
    if missing or unexpected:
        raise ValueError(f"parameters that PyTorch lacks: {unexpected}; that JAX lacks: {missing}")
    model = model.to(DEVICE, memory_format=torch.channels_last).train()
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3, fused=CUDA)

    def loss_of(image: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
        x = standardize(image).contiguous(memory_format=torch.channels_last)
        with torch.autocast(DEVICE.type, torch.bfloat16, enabled=dtype == "bfloat16"):
            logits = model(x)
        return dice_cross_entropy(logits, label.long())

    forward = torch.compile(loss_of, dynamic=False) if compiled else loss_of

    def step() -> tuple[torch.Tensor, torch.Tensor]:
        optimizer.zero_grad(set_to_none=True)
        loss = forward(image, label)
        loss.backward()
        norm = nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        return loss.detach(), norm

    def predict() -> torch.Tensor:
        model.eval()
        with torch.inference_mode(), torch.autocast(DEVICE.type, torch.bfloat16, enabled=dtype == "bfloat16"):
            logits = model(standardize(image).contiguous(memory_format=torch.channels_last))
        model.train()
        return logits

    return step, predict


def wait() -> None:
    """Returns when the GPU has done its work."""
    if CUDA:
        torch.cuda.synchronize()


class Server:
    """The steps built so far, by key."""

    def __init__(self) -> None:
        self.steps: dict[str, Callable[[], tuple[torch.Tensor, torch.Tensor]]] = {}
        self.forwards: dict[str, Callable[[], torch.Tensor]] = {}

    def build(
        self, key: str, file: str, network: dict[str, Any], dtype: str, compile: bool
    ) -> dict[str, Any]:
        """Builds a step and makes its first update."""
        step, forward = step_of(network, load_file(file), dtype, compile)
        start = time.perf_counter()
        loss, norm = step()
        wait()
        self.steps[key], self.forwards[key] = step, forward
        return {
            "first_seconds": time.perf_counter() - start,
            "loss": float(loss),
            "gradient_norm": float(norm),
        }

    def time(self, key: str, steps: int) -> dict[str, Any]:
        """Mean time of a step over a number of updates."""
        if CUDA:
            torch.cuda.reset_peak_memory_stats()
        wait()
        start = time.perf_counter()
        for _ in range(steps):
            self.steps[key]()
        wait()
        elapsed = time.perf_counter() - start
        peak = torch.cuda.max_memory_allocated() if CUDA else None
        return {"milliseconds": 1e3 * elapsed / steps, "peak_bytes": peak}

    def time_forward(self, key: str, passes: int) -> dict[str, Any]:
        """Mean time of a forward pass."""
        wait()
        start = time.perf_counter()
        for _ in range(passes):
            self.forwards[key]()
        wait()
        return {"milliseconds": 1e3 * (time.perf_counter() - start) / passes}

    def free(self) -> dict[str, Any]:
        """Drops all steps and what they hold."""
        self.steps.clear()
        self.forwards.clear()
        torch.compiler.reset()
        gc.collect()
        if CUDA:
            torch.cuda.empty_cache()
        return {}


def answers(lines: Iterator[str]) -> Iterator[dict[str, Any]]:
    """The versions, then the answer to each line."""
    server = Server()
    yield {
        "torch": torch.__version__,
        "cudnn": torch.backends.cudnn.version() if CUDA else None,
        "device": torch.cuda.get_device_name() if CUDA else "cpu",
        "threads": torch.get_num_threads(),
    }
    for line in lines:
        fields = json.loads(line)
        try:
            yield getattr(server, fields.pop("command"))(**fields)
        except Exception as error:  # whatever it is, the benchmark reports it and goes on
            yield {"error": f"{type(error).__name__}: {error}"[:2000]}


def main() -> None:
    """Answers commands until standard input ends."""
    # TF32 as XLA uses it for float32 on a GPU; convolutions are tuned as XLA tunes them.
    torch.set_float32_matmul_precision("high")
    torch.backends.cudnn.benchmark = True
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # libraries print to the log, not among the answers
    for answer in answers(sys.stdin):
        print(json.dumps(answer), file=out, flush=True)


if __name__ == "__main__":
    main()
