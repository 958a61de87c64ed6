"""Train a network in a plain PyTorch loop; `benchmarks/time_to_quality.py` starts it with a Python that has torch.

    python -m benchmarks.torch_training FOLDER

`arrays.safetensors` of the folder holds the prepared cases, the first parameters and the learning rate of each step;
`recipe.json` holds the rest. The result is one JSON object, the last line of standard output. It needs torch,
safetensors and NumPy alone.
"""

import json
import math
import os
import statistics
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import nn

from benchmarks.torch_step import CUDA, DEVICE, create, dice_cross_entropy, standardize, wait

PREFIX = "parameters."  # of the network's state dict among the arrays


def augment(
    image: torch.Tensor, label: torch.Tensor, strength: dict[str, float], flip_table: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """`data.augment.augment` for flip, affine warp, gamma, contrast and noise, a whole batch at once.

    Args:
        image: u8[B, 1, H, W].
        label: u8[B, H, W].
        strength: fields of `data.augment.Augmentation`.
        flip_table: u8[labels], the label that each label becomes on a flip.

    Returns:
        f32[B, 1, H, W] and u8[B, H, W].
    """
    size, _, height, width = image.shape
    device = image.device

    def uniform() -> torch.Tensor:
        return 2 * torch.rand(size, 1, 1, 1, device=device) - 1  # of one example, in [-1, 1]

    image = image.float() / 255
    flipped = torch.rand(size, 1, 1, 1, device=device) < strength["flip"]
    image = torch.where(flipped, image.flip(-1), image)
    label = torch.where(flipped[:, 0], flip_table[label.flip(-1).long()], label)
    angle = uniform() * math.radians(strength["rotation"])
    zoom = (1 + strength["scale"]) ** uniform()
    cosine, sine = (angle.cos() / zoom).flatten(), (angle.sin() / zoom).flatten()
    down, across = (2 * strength["shift"] * uniform().flatten() for _ in range(2))
    linear = torch.stack([cosine, sine * height / width, -sine * width / height, cosine], 1).view(-1, 2, 2)
    offset = -linear @ torch.stack([across, down], 1)[..., None]
    field = F.affine_grid(torch.cat([linear, offset], 2), [size, 1, height, width], align_corners=False)
    image = F.grid_sample(image, field, padding_mode="border", align_corners=False)
    options = {"mode": "nearest", "padding_mode": "border", "align_corners": False}
    label = F.grid_sample(label[:, None].float(), field, **options)[:, 0].to(torch.uint8)
    image = image.clamp(1e-6, 1) ** torch.exp2(uniform() * strength["gamma"])
    mean = image.mean((1, 2, 3), keepdim=True)
    image = (mean + (image - mean) * (1 + uniform() * strength["contrast"])).clamp(0, 1)
    deviation = strength["noise"] * torch.rand(size, 1, 1, 1, device=device)
    return image + deviation * torch.randn_like(image), label


def dice(prediction: torch.Tensor, label: torch.Tensor, structures: int) -> torch.Tensor:
    """Dice of the labels 1 to S, f32[B, S]; NaN where a structure is in neither of two label maps [B, H, W]."""
    scores = []
    for structure in range(1, structures + 1):
        predicted, true = prediction == structure, label == structure
        area = predicted.sum((1, 2)) + true.sum((1, 2))
        scores.append(2 * (predicted & true).sum((1, 2)) / area)
    return torch.stack(scores, 1)


class Training:
    """The network, its optimizer and its cases.

    Args:
        recipe: `network`, `structures`, `batch_size`, `clip_norm`, `augment`.
        arrays: `image` u8[N, 1, H, W] and `label` u8[N, H, W] of the training cases, `validation_image` and
            `validation_label`, `flip_table`, `learning_rate` f32[steps], and the first parameters.
    """

    def __init__(self, recipe: dict[str, Any], arrays: dict[str, torch.Tensor]):
        self.recipe = recipe
        arrays = {name: array.to(DEVICE) for name, array in arrays.items()}
        self.start = {name.removeprefix(PREFIX): arrays.pop(name) for name in list(arrays) if PREFIX in name}
        self.arrays = arrays
        self.model = create(recipe["network"], classes=recipe["structures"] + 1)
        self.model.to(DEVICE, memory_format=torch.channels_last)
        self.first_buffers = {name: array.clone() for name, array in self.model.named_buffers()}
        self.reset()

    def reset(self) -> None:
        """Returns to the state before the first step."""
        self.model.load_state_dict(self.start | self.first_buffers)
        self.optimizer = torch.optim.Adam(self.model.parameters(), fused=True)
        self.rates = self.arrays["learning_rate"].tolist()

    def orders(self) -> Iterator[torch.Tensor]:
        """Endless batches of rows, each case once an epoch."""
        while True:
            rows = torch.randperm(len(self.arrays["image"]), device=DEVICE)
            size = self.recipe["batch_size"]
            yield from rows[: len(rows) // size * size].view(-1, size)

    def logits(self, image: torch.Tensor) -> torch.Tensor:
        """Images as `standardize` takes them -> f32[B, C, H, W]."""
        return self.model(standardize(image).contiguous(memory_format=torch.channels_last))

    def step(self, number: int, rows: torch.Tensor, varied: bool = True) -> None:
        """Makes update `number`, counted from 0, on those cases."""
        image, label = self.arrays["image"][rows], self.arrays["label"][rows]
        if varied:
            image, label = augment(image, label, self.recipe["augment"], self.arrays["flip_table"])
        for group in self.optimizer.param_groups:
            group["lr"] = self.rates[number]
        self.model.train()
        self.optimizer.zero_grad(set_to_none=True)
        dice_cross_entropy(self.logits(image), label.long()).backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), self.recipe["clip_norm"])
        self.optimizer.step()

    @torch.inference_mode()
    def evaluate(self) -> float:
        """Mean Dice of the validation cases, over cases and structures."""
        self.model.eval()
        size = self.recipe["batch_size"]
        images = self.arrays["validation_image"].split(size)
        labels = self.arrays["validation_label"].split(size)
        scores = [
            dice(self.logits(image).argmax(1), label, self.recipe["structures"])
            for image, label in zip(images, labels, strict=True)
        ]
        return float(torch.cat(scores).nanmean())


def milliseconds(training: Training, rounds: int, updates: int) -> dict[str, float]:
    """Median time of a step with and without augmentation, in turns, and of an evaluation."""
    rows = next(training.orders())
    times: dict[str, list[float]] = {"step": [], "step_without_augmentation": [], "evaluation": []}
    for _ in range(rounds):
        for varied, name in ((True, "step"), (False, "step_without_augmentation")):
            wait()
            begin = time.perf_counter()
            for _ in range(updates):
                training.step(0, rows, varied)
            wait()
            times[name].append(1e3 * (time.perf_counter() - begin) / updates)
        begin = time.perf_counter()
        training.evaluate()
        times["evaluation"].append(1e3 * (time.perf_counter() - begin))
    return {name: statistics.median(values) for name, values in times.items()}


def run(recipe: dict[str, Any], arrays: dict[str, torch.Tensor]) -> dict[str, Any]:
    """Trains, with the result of `time_to_quality.train_jax`."""
    torch.manual_seed(recipe["seed"])
    begin = time.perf_counter()
    training = Training(recipe, arrays)
    first_dice = training.evaluate()
    orders = training.orders()
    training.step(0, next(orders))
    wait()
    start_seconds = time.perf_counter() - begin
    training.reset()
    curve, evaluation_seconds = [], 0.0
    begin = time.perf_counter()
    for step, rows in zip(range(1, recipe["steps"] + 1), orders, strict=False):
        training.step(step - 1, rows)
        if step % recipe["eval_every"] == 0:
            wait()
            evaluation_begin = time.perf_counter()
            score = training.evaluate()
            evaluation_seconds += time.perf_counter() - evaluation_begin
            curve.append([step, time.perf_counter() - begin, score])
    return {
        "start_seconds": start_seconds,
        "first_dice": first_dice,
        "curve": curve,
        "evaluation_seconds": evaluation_seconds,
        "milliseconds": milliseconds(training, **recipe["timing"]),
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
    }


def main() -> None:
    """Trains by the recipe of the folder and prints the result."""
    if not CUDA:
        torch.set_num_threads(len(os.sched_getaffinity(0)))
    folder = Path(sys.argv[1])
    recipe = json.loads((folder / "recipe.json").read_text())
    print(json.dumps(run(recipe, load_file(folder / "arrays.safetensors"))))


if __name__ == "__main__":
    main()
