r"""Compare an accelerator with the CPU: the parts of a run on both, in one process.

    python -m benchmarks.device_agreement

The default device is compared with the CPU backend, both compiled, with float32 products in full precision ("highest");
on a machine without an accelerator, compiled code is compared with the same code run operation by operation.
`tests/gpu` asserts the same tolerances, and `benchmarks/gpu.sh` records the differences.
"""

import contextlib
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

sys.path.insert(0, str(Path(__file__).parents[1]))

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.jax_step import AUGMENTATION, OPTIMIZER
from kneefair_jax import losses, metrics, mitigation, models
from kneefair_jax.data import phantom
from kneefair_jax.data.augment import Augmentation, augment
from kneefair_jax.training import state, steps

CLASSES = 5


class Sizes(NamedTuple):
    """How large the inputs are.

    Attributes:
        side: of images, pixels.
        batch_size: examples.
        widths: of the network.
        steps: of the loss curve.
        compile_reference: whether the reference is compiled even where the default device is a CPU itself, which tells
            nothing about rounding and takes seconds, not minutes.
    """

    side: int = 64
    batch_size: int = 8
    widths: tuple[int, ...] = (8, 16, 32)
    steps: int = 20
    compile_reference: bool = False


class Difference(NamedTuple):
    """One compared quantity: what it is, how far apart the two are, and how far they may be."""

    name: str
    value: float
    tolerance: float

    @property
    def agrees(self) -> bool:
        """Whether it is within the tolerance; NaN is not."""
        return bool(self.value <= self.tolerance)


def run_and_reference(
    sizes: Sizes, function: Callable[..., Any], *arguments: Any, calls: Callable[..., Any] | None = None
) -> tuple[Any, Any]:
    """The function's result on the default device, compiled, and the reference, as NumPy arrays.

    The reference is compiled for the CPU; where the default device is the CPU, it is not compiled.

    Args:
        sizes: of the comparison.
        function: of trees of arrays, on one device.
        arguments: trees of arrays.
        calls: `calls(function, *arguments)` calls the function, compiled or not, as often as it needs; by default once.
    """
    device, cpu = jax.devices()[0], jax.local_devices(backend="cpu")[0]
    arguments = jax.device_get(arguments)
    calls = calls or (lambda function, *inputs: function(*inputs))

    def evaluate(place: Any, compiled: bool) -> Any:
        how = contextlib.nullcontext() if compiled else jax.disable_jit()
        with jax.default_device(place), how:
            inputs = jax.device_put(arguments, place)
            return jax.device_get(calls(jax.jit(function) if compiled else function, *inputs))

    return evaluate(device, True), evaluate(cpu, sizes.compile_reference or device.platform != "cpu")


def relative(actual: Any, reference: Any) -> float:
    """Largest difference over the largest magnitude of the reference, over all leaves; NaN agrees with NaN."""
    largest = 0.0
    for a, b in zip(jax.tree.leaves(actual), jax.tree.leaves(reference), strict=True):
        a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
        if not np.array_equal(np.isnan(a), np.isnan(b)):
            return float("inf")
        scale = np.nanmax(np.abs(b), initial=0.0) or 1.0
        largest = max(largest, float(np.nanmax(np.abs(a - b), initial=0.0) / scale))
    return largest


def share_unequal(actual: np.ndarray, reference: np.ndarray, tolerance: float = 0) -> float:
    """Share of the entries that are further apart than that."""
    return float((np.abs(actual.astype(np.float64) - reference.astype(np.float64)) > tolerance).mean())


def squares(count: int, side: int) -> np.ndarray:
    """Masks u8[count, side, side], a square of a quarter of the side for each structure, some behind others."""
    rng = np.random.default_rng(0)
    label = np.zeros((count, side, side), np.uint8)
    for example in label:
        for structure in range(1, CLASSES):
            top, left = rng.integers(0, side - side // 4, 2)
            example[top : top + side // 4, left : left + side // 4] = structure
    return label


def _batch(sizes: Sizes) -> dict[str, np.ndarray]:
    """Bright squares of the structures on noise."""
    rng, label = np.random.default_rng(1), squares(sizes.batch_size, sizes.side)
    image = np.clip(40 * label + rng.normal(60, 15, label.shape), 0, 255).astype(np.uint8)[..., None]
    count = np.arange(sizes.batch_size)
    ones = np.ones(sizes.batch_size, np.float32)
    group, position = (count % 2).astype(np.int32), count.astype(np.int32)
    return {
        "image": image,
        "label": label,
        "group": group,
        "mask": ones,
        "weight": ones,
        "position": position,
    }


def loss_curve(sizes: Sizes) -> list[Difference]:
    """Losses and gradient norms of training steps with group DRO and Adam on one batch, without augmentation."""
    model = models.create({"name": "unet", "widths": sizes.widths}, classes=CLASSES)
    transform, objective = state.create_optimizer(OPTIMIZER, 100), mitigation.group_dro()
    definition = steps.StepDefinition(
        model,
        losses.dice_cross_entropy,
        objective,
        transform,
        augmentation=Augmentation(),
        flip_table=np.arange(CLASSES),
        groups=2,
    )
    step = steps.make_train_step(definition)
    counts = np.ones(2, np.int32)
    grid = (sizes.side, sizes.side, 1)
    start = jax.jit(lambda seed: state.create(seed, model, grid, transform, objective, counts))(jnp.uint32(0))

    def curve(step: Any, current: Any, batch: Any) -> Any:
        values = []
        for _ in range(sizes.steps):
            current, metrics = step(current, batch)
            values.append(jnp.stack([metrics["loss"], metrics["gradient_norm"]]))
        return jnp.stack(values)

    # One step is compiled, not all of them: the loop is outside.
    actual, reference = run_and_reference(sizes, step, start, _batch(sizes), calls=curve)
    return [
        Difference("first loss", relative(actual[0, 0], reference[0, 0]), 1e-5),
        Difference("first gradient norm", relative(actual[0, 1], reference[0, 1]), 1e-3),
        Difference(f"losses of {sizes.steps} steps", relative(actual[:, 0], reference[:, 0]), 2e-2),
    ]


def objectives(sizes: Sizes) -> list[Difference]:
    """Weights and state of every group objective on one batch of losses."""
    rng = np.random.default_rng(1)
    values = rng.gamma(2, 0.3, 4 * sizes.batch_size).astype(np.float32)
    group = rng.integers(-1, 3, len(values)).astype(np.int32)
    mask = (rng.random(len(values)) < 0.9).astype(np.float32)
    counts = np.array([50, 20, 5], np.int32)
    differences = []
    for name in sorted(mitigation.OBJECTIVES):
        objective = mitigation.create(name, {})

        def update(values: jax.Array, group: jax.Array, mask: jax.Array, objective: Any = objective) -> Any:
            return objective.update(values, group, mask, objective.init(jnp.asarray(counts)))

        actual, reference = run_and_reference(sizes, update, values, group, mask)
        differences.append(Difference(f"objective {name}", relative(actual, reference), 1e-5))
    return differences


def scores(sizes: Sizes) -> list[Difference]:
    """Losses, Dice, IoU and calibration of random logits."""
    rng = np.random.default_rng(2)
    label = _batch(sizes)["label"].astype(np.int32)
    logits = rng.normal(0, 2, (*label.shape, CLASSES)).astype(np.float32)
    logits += 4 * np.eye(CLASSES, dtype=np.float32)[label]

    def counted(logits: jax.Array, label: jax.Array) -> Any:
        counts = metrics.overlap(logits.argmax(-1), label, CLASSES - 1)
        return counts, metrics.dice(counts), metrics.iou(counts)

    def calibrated(logits: jax.Array, label: jax.Array) -> Any:
        sums = metrics.reliability(jax.nn.softmax(logits)[..., 1:], label)
        return sums.confidence.sum(-1), metrics.ece(sums)

    def every_loss(logits: jax.Array, label: jax.Array) -> Any:
        return {name: loss(logits, label) for name, loss in losses.LOSSES.items()}

    counts, reference = run_and_reference(sizes, counted, logits, label)
    pixels = sum(
        int(np.abs(a - b).sum())
        for a, b in zip(jax.tree.leaves(counts[0]), jax.tree.leaves(reference[0]), strict=True)
    )
    return [
        Difference("pixels counted", float(pixels), 0.0),
        Difference("Dice and IoU", relative(counts[1:], reference[1:]), 1e-6),
        Difference("calibration", relative(*run_and_reference(sizes, calibrated, logits, label)), 1e-4),
        Difference("losses", relative(*run_and_reference(sizes, every_loss, logits, label)), 1e-5),
    ]


def augmentation(sizes: Sizes) -> list[Difference]:
    """A batch varied as in training: most pixels alike, for a rounding of an angle can move a label's border."""
    batch = _batch(sizes)

    def vary(image: jax.Array, label: jax.Array, position: jax.Array) -> Any:
        table = jnp.arange(CLASSES)
        image = image.astype(jnp.float32) / 255.0
        label = label.astype(jnp.int32)
        return augment(jax.random.key(0), image, label, position, strength=AUGMENTATION, flip_table=table)

    actual, reference = run_and_reference(sizes, vary, batch["image"], batch["label"], batch["position"])
    return [
        Difference(
            "augmented grey values, mean difference", float(np.abs(actual[0] - reference[0]).mean()), 1e-4
        ),
        Difference("augmented labels, share unequal", share_unequal(actual[1], reference[1]), 2e-3),
    ]


def phantoms(sizes: Sizes) -> list[Difference]:
    """Phantom knees of wide ranges: pictures and masks."""

    def draw(seed: jax.Array) -> Any:
        keys = jax.vmap(jax.random.key)(seed)
        size = (sizes.side, sizes.side)
        return jax.vmap(lambda key: phantom.draw_case(key, size=size, width=1.0))(keys)

    actual, reference = run_and_reference(sizes, draw, np.arange(sizes.batch_size, dtype=np.uint32))
    return [
        Difference(
            "phantom grey values, share apart by 2", share_unequal(actual.image, reference.image, 1), 2e-3
        ),
        Difference("phantom masks, share unequal", share_unequal(actual.label, reference.label), 2e-3),
        Difference("phantom grades, share unequal", share_unequal(actual.grade, reference.grade), 0.0),
    ]


COMPARISONS: dict[str, Callable[[Sizes], list[Difference]]] = {
    "objectives": objectives,
    "scores": scores,
    "loss_curve": loss_curve,
    "augmentation": augmentation,
    "phantoms": phantoms,
}


def compare(name: str, sizes: Sizes = Sizes()) -> list[Difference]:  # noqa: B008 (a NamedTuple is immutable)
    """One of `COMPARISONS`, with products of float32 numbers in full precision."""
    with jax.default_matmul_precision("highest"):
        return COMPARISONS[name](sizes)


def main() -> None:
    """Prints every difference; ends with status 1 where one is too large."""
    print(f"{jax.devices()[0].device_kind} against the CPU", flush=True)
    failed = False
    for name in COMPARISONS:
        start = time.perf_counter()
        for difference in compare(name):
            failed |= not difference.agrees
            mark = "" if difference.agrees else "  TOO LARGE"
            print(f"{difference.name:45s} {difference.value:9.1e} (at most {difference.tolerance:g}){mark}")
        print(f"{name}: {time.perf_counter() - start:.1f} s", flush=True)
    sys.exit(failed)


if __name__ == "__main__":
    main()
