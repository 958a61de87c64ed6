r"""How long is a training step, beside PyTorch's on the same network, and beside what the device could do at most?

    python -m benchmarks.train_step --torch_python=PYTHON_WITH_TORCH

The step is the one of a run (`training.steps`), without augmentation, which is timed apart; PyTorch's has the same
parameters, batch, loss and optimizer (Adam after clipping), channels last, and autocast for bfloat16. PyTorch runs in a
process of its own, and the two take turns: each round times one after the other, and ratios are medians over rounds.
Their first losses must agree, or the row says that they do not. Without --torch_python the columns of PyTorch are
left out. The torch environment is one of its own: pip install torch numpy safetensors.
"""

import argparse
import contextlib
import itertools
import os
import re
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

sys.path.insert(0, str(Path(__file__).parents[1]))

import jax
import jax.numpy as jnp
import numpy as np
from safetensors.numpy import save_file

from benchmarks import roofline, torch_process
from benchmarks.machine import hardware, versions
from benchmarks.torch_process import TorchError, TorchProcess
from kneefair_jax import losses, mitigation, models
from kneefair_jax.data.augment import Augmentation
from kneefair_jax.runtime import atomic
from kneefair_jax.training import optimizer, sharding, state, steps

NETWORKS: dict[str, dict[str, Any]] = {
    "unet": {"name": "unet", "widths": (16, 32, 64, 128, 256)},
    "large": {"name": "unet", "widths": (64, 128, 256, 512, 1024)},
    "resnet18": {"name": "resnet18_unet", "widths": (16, 32, 64, 128, 256)},
}
CLASSES = 5
OPTIMIZER = {
    **{"name": "adam", "learning_rate": 2e-3, "schedule": "constant", "warmup_steps": 0},
    **{"weight_decay": 0.0, "clip_norm": 1.0},
}
# As configs/default.py varies a batch.
AUGMENTATION = Augmentation(
    flip=0.5, rotation=10.0, scale=0.1, shift=0.05, gamma=0.5, contrast=0.2, noise=0.02
)
# Largest relative difference of the two first losses: float32 convolutions may run in TF32, of ten bits.
LOSS_TOLERANCE = {"float32": 2e-3, "bfloat16": 3e-2}


class Setting(NamedTuple):
    """One row of the table: a key of `NETWORKS`, sides of the image in pixels, type of the computation, batch size."""

    network: str
    side: int
    dtype: str
    batch_size: int

    @property
    def title(self) -> str:
        """`unet 512 bfloat16 x16`."""
        return f"{self.network} {self.side} {self.dtype} x{self.batch_size}"


# Most important first: what the time does not suffice for is left out, and the table says so.
GPU = tuple(
    Setting(*row)
    for row in (
        ("unet", 512, "bfloat16", 16),
        ("unet", 512, "float32", 16),
        ("large", 512, "bfloat16", 16),
        ("resnet18", 512, "bfloat16", 16),
        ("unet", 256, "bfloat16", 32),
        ("unet", 128, "float32", 8),
        ("unet", 1024, "bfloat16", 4),
        ("unet", 128, "bfloat16", 64),
        ("large", 512, "float32", 16),
        ("resnet18", 512, "float32", 16),
        ("unet", 256, "float32", 32),
        ("large", 256, "bfloat16", 32),
        ("resnet18", 256, "bfloat16", 32),
        ("unet", 1024, "float32", 4),
        ("large", 1024, "bfloat16", 4),
        ("resnet18", 1024, "bfloat16", 4),
        ("large", 128, "bfloat16", 64),
        ("resnet18", 128, "bfloat16", 64),
    )
)
CPU = tuple(
    Setting(*row)
    for row in (
        ("unet", 128, "float32", 8),
        ("unet", 256, "float32", 8),
        ("resnet18", 128, "float32", 8),
        ("unet", 512, "float32", 2),
        ("large", 128, "float32", 8),
        ("unet", 128, "bfloat16", 8),
    )
)


class JaxStep(NamedTuple):
    """A compiled step of this package.

    Attributes:
        run: `run(n)` makes n updates and returns the milliseconds of one.
        first: `loss` and `gradient_norm` of the first update.
        cost: `compile_seconds`, `flops`, `bytes_accessed`, `peak_bytes`.
    """

    run: Callable[[int], float]
    first: dict[str, float]
    cost: dict[str, float]


def batch_of(setting: Setting) -> dict[str, np.ndarray]:
    """Noise with random labels, as the pipeline gives a batch: image u8[B, H, W, 1], label u8[B, H, W], ..."""
    rng, size = np.random.default_rng(0), setting.batch_size
    return {
        "image": rng.integers(0, 256, (size, setting.side, setting.side, 1), np.uint8),
        "label": rng.integers(0, CLASSES, (size, setting.side, setting.side), np.uint8),
        "group": np.arange(size, dtype=np.int32) % 2,
        "mask": np.ones(size, np.float32),
        "weight": np.ones(size, np.float32),
        "position": np.arange(size, dtype=np.int32),
    }


def first_state(setting: Setting, network: dict[str, Any]) -> state.TrainState:
    """The state before the first step, as NumPy arrays, drawn on the CPU: it depends on the network alone."""
    model = models.create(network | {"dtype": setting.dtype}, classes=CLASSES)
    transform, objective = optimizer.create(OPTIMIZER, 1000), mitigation.erm()
    # The seed is read on the CPU, so what draws the parameters is compiled there.
    seed = jax.device_put(jnp.uint32(0), jax.local_devices(backend="cpu")[0])
    counts = np.ones(2, np.int32)
    draw = jax.jit(
        lambda seed: state.create(seed, model, (32, 32, 1), transform, objective, counts),
        compiler_options={"xla_backend_optimization_level": 0},
    )
    return jax.device_get(draw(seed))


def jax_step(
    setting: Setting,
    network: dict[str, Any],
    start: state.TrainState,
    augmentation: Augmentation = Augmentation(),  # noqa: B008 (a NamedTuple is immutable)
) -> JaxStep:
    """Compiles the step of a run for the default device and makes its first update."""
    step = steps.make_train_step(
        models.create(network | {"dtype": setting.dtype}, classes=CLASSES),
        losses.dice_cross_entropy,
        mitigation.erm(),
        optimizer.create(OPTIMIZER, 1000),
        augmentation=augmentation,
        flip_table=jnp.arange(CLASSES),
        groups=2,
    )
    device = jax.devices()[0]
    current, batch = jax.device_put((start, batch_of(setting)), device, may_alias=False)
    lowered = sharding.PARALLEL["jit"].compiled(step).lower(current, batch, None)
    before = time.perf_counter()
    compiled = lowered.compile()
    seconds = time.perf_counter() - before
    current, metrics = compiled(current, batch, None)
    first = {name: float(metrics[name]) for name in ("loss", "gradient_norm")}

    def run(updates: int) -> float:
        nonlocal current
        before = time.perf_counter()
        for _ in range(updates):
            current, metrics = compiled(current, batch, None)
        jax.block_until_ready((current, metrics))
        return 1e3 * (time.perf_counter() - before) / updates

    return JaxStep(run, first, {"compile_seconds": seconds} | _cost(lowered, compiled))


def _cost(lowered: Any, compiled: Any) -> dict[str, float]:
    """Arithmetic as written, memory traffic and peak memory as compiled; what XLA does not know is left out."""
    written, optimized = lowered.cost_analysis() or {}, compiled.cost_analysis() or {}
    cost = {
        "flops": written.get("flops"),
        "flops_compiled": optimized.get("flops"),
        "bytes_accessed": optimized.get("bytes accessed"),
    }
    if (memory := compiled.memory_analysis()) is not None:
        held = memory.argument_size_in_bytes + memory.output_size_in_bytes - memory.alias_size_in_bytes
        cost["peak_bytes"] = held + memory.temp_size_in_bytes
    return {name: float(value) for name, value in cost.items() if value is not None and value > 0}


def torch_arrays(params: dict[str, Any]) -> dict[str, np.ndarray]:
    """The parameters of a U-Net of `kneefair_jax.models` as the state dict of `benchmarks.torch_step`'s.

    Kernels HWIO become OIHW; the dense layer of an up-sampling, [C, 4 F], becomes the kernel [C, F, 2, 2] of a
    transposed convolution, whose bias is the same at all four places (it starts at 0).
    """
    arrays = {}
    for path, leaf in jax.tree_util.tree_leaves_with_path(params):
        names = [entry.key for entry in path]
        array = np.asarray(leaf)
        if names[0].startswith("up_"):
            features = array.shape[-1] // 4
            if names[-1] == "kernel":
                array = array.reshape(-1, 2, 2, features).transpose(0, 3, 1, 2)
            else:
                array = array.reshape(4, features).mean(0)
        elif names[-1] == "kernel":
            array = array[None, None] if array.ndim == 2 else array  # a dense layer is a 1 x 1 convolution
            array = array.transpose(3, 2, 0, 1)
        last = {"kernel": "weight", "scale": "weight", "bias": "bias"}[names[-1]]
        kept = [name for name in names[:-1] if name not in ("BatchNorm_0", "Dense_0")]
        key = re.sub(r"(layer\d|downsample)_(\d)", r"\1.\2", ".".join([*kept, last]))
        arrays[key] = np.ascontiguousarray(array)
    return arrays


def measure(
    setting: Setting,
    network: dict[str, Any],
    limits: roofline.Roofline,
    torch: TorchProcess | None,
    variants: tuple[str, ...],
    folder: Path,
    deadline: float,
    rounds: int,
    round_seconds: float,
) -> dict[str, Any]:
    """One row of the table.

    Args:
        setting: of the row.
        network: the config's `model` section.
        limits: of the device.
        torch: PyTorch's process; None for none.
        variants: of PyTorch: "eager", "compile".
        folder: for the parameters.
        deadline: on the clock `time.monotonic`, by which PyTorch must have answered.
        rounds: of timings.
        round_seconds: how long each side is timed in each round, about.
    """
    start = first_state(setting, network)
    row: dict[str, Any] = setting._asdict() | {"parameters": models.registry.count(start.params)}
    builds: dict[str, dict[str, Any]] = {}
    if torch and torch.alive:
        batch = batch_of(setting)
        file = folder / "start.safetensors"
        image = np.ascontiguousarray(batch["image"].transpose(0, 3, 1, 2))
        save_file(torch_arrays(start.params) | {"image": image, "label": batch["label"]}, file)
        fields = {"file": str(file), "network": network, "dtype": setting.dtype}
        builds = {
            name: {"key": name, "compile": name == "compile"} | fields for name in variants if torch.alive
        }
    # Both compile at the same time.
    pending = _send_all(torch, builds, row)
    jax_side = jax_step(setting, network, start)
    row["jax"] = jax_side.cost | {"first": jax_side.first}
    ready = []
    for name in pending:
        with _noted(row, f"torch_{name}"):
            row[f"torch_{name}"] = torch.answer(deadline - time.monotonic())  # type: ignore[union-attr]
            _check_loss(row, name, setting.dtype, jax_side.first["loss"])
            ready.append(name)
    jax_side.run(2)
    updates = max(2, min(100, round(1e3 * round_seconds / jax_side.run(2))))
    times: dict[str, list[float]] = {"jax": [], **{f"torch_{name}": [] for name in ready}}
    for name in ready:
        with _noted(row, f"torch_{name}"):
            torch.ask("time", deadline - time.monotonic(), key=name, steps=2)  # type: ignore[union-attr]
    for _ in range(rounds):
        times["jax"].append(jax_side.run(updates))
        for name in ready:
            key = f"torch_{name}"
            if torch is None or not torch.alive or "error" in row[key]:
                continue
            with _noted(row, key):
                answer = torch.ask("time", deadline - time.monotonic(), key=name, steps=updates)
                times[key].append(answer["milliseconds"])
                if answer["peak_bytes"] is not None:
                    row[key]["peak_bytes"] = max(answer["peak_bytes"], row[key].get("peak_bytes", 0))
    if torch and torch.alive:
        with _noted(row, "torch_process"):
            torch.ask("free", deadline - time.monotonic())
    for key, values in times.items():
        if values:
            row[key] |= {"milliseconds": statistics.median(values), "rounds": values}
            if key != "jax":
                # More than 1: this package is the faster.
                ratios = [other / own for own, other in zip(times["jax"], values, strict=False)]
                row[key]["speed_ratio"] = statistics.median(ratios)
    row["updates"] = updates
    cost = row["jax"]
    if "flops" in cost:
        seconds = cost["milliseconds"] / 1e3
        cost["flops_per_second"] = cost["flops"] / seconds
        floor = limits.seconds(setting.dtype, cost["flops"], cost.get("bytes_accessed", 0.0))
        cost["roofline_share"] = floor / seconds
    return row


def _send_all(torch: TorchProcess | None, builds: dict[str, dict[str, Any]], row: dict[str, Any]) -> list[str]:
    sent = []
    for name, fields in builds.items():
        with _noted(row, f"torch_{name}"):
            assert torch
            torch.send("build", **fields)
            sent.append(name)
    return sent


@contextlib.contextmanager
def _noted(row: dict[str, Any], key: str) -> Iterator[None]:
    """Writes an error of PyTorch into the row and goes on."""
    try:
        yield
    except TorchError as error:
        row[key] = row.get(key, {}) | {"error": str(error)}


def _check_loss(row: dict[str, Any], name: str, dtype: str, loss: float) -> None:
    answer = row[f"torch_{name}"]
    difference = abs(answer["loss"] - loss) / abs(loss)
    answer["loss_difference"] = difference
    answer["same_loss"] = bool(difference <= LOSS_TOLERANCE[dtype])


def run(
    settings: Iterable[Setting],
    record: Callable[[dict[str, Any]], None],
    *,
    torch_python: str | None,
    variants: tuple[str, ...] = ("eager",),
    deadline: float,
    networks: dict[str, dict[str, Any]] = NETWORKS,
    rounds: int = 5,
    round_seconds: float = 0.3,
    least_seconds: float = 25.0,
    limits: roofline.Roofline | None = None,
) -> None:
    """Measures the rows in order and records what there is after each.

    Args:
        settings: of the rows.
        record: gets the whole result each time that it has grown.
        torch_python: an interpreter with torch; None leaves PyTorch out.
        variants: of PyTorch.
        deadline: on the clock `time.monotonic`; no row starts in the last `least_seconds` before it.
        networks: by name.
        rounds: of timings.
        round_seconds: of each side in each round, about.
        least_seconds: that a row may take.
        limits: of the device; measured where they are not given.
    """
    limits = limits or roofline.measure()
    result: dict[str, Any] = {"roofline": limits._asdict(), "rows": [], "errors": []}
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        torch = None
        if torch_python:
            try:
                torch = stack.enter_context(torch_process.start(torch_python))
                result["torch"] = torch.versions
            except TorchError as error:
                result["errors"].append(f"PyTorch: {error}")
        record(result)
        for setting in settings:
            if time.monotonic() > deadline - least_seconds:
                result.setdefault("not_measured", []).append(setting.title)
                continue
            try:
                network = networks[setting.network]
                arguments = (network, limits, torch, variants, folder, deadline, rounds, round_seconds)
                row = measure(setting, *arguments)
                result["errors"] += [
                    f"{setting.title}, {key}: {value.get('error', 'the first loss differs')}"
                    for key, value in row.items()
                    if isinstance(value, dict) and ("error" in value or value.get("same_loss") is False)
                ]
                result["rows"].append(row)
                print(lines([row])[-1], flush=True)
            except Exception as error:  # out of memory, say: the other rows are measured all the same
                result["errors"].append(f"{setting.title}: {type(error).__name__}: {str(error)[:1000]}")
                print(result["errors"][-1], flush=True)
            record(result)
        record(result)


def augmentation_cost(setting: Setting, network: dict[str, Any], rounds: int = 5) -> dict[str, float]:
    """Milliseconds of a step with and without the augmentation of configs/default.py, and their ratio."""
    start = first_state(setting, network)
    sides = {"with": jax_step(setting, network, start, AUGMENTATION), "without": jax_step(setting, network, start)}
    updates = max(2, min(100, round(300 / sides["with"].run(2))))
    times = {name: [] for name in sides}
    for _, name in itertools.product(range(rounds), sides):
        times[name].append(sides[name].run(updates))
    medians = {name: statistics.median(values) for name, values in times.items()}
    return medians | {"ratio": medians["with"] / medians["without"]}


def lines(rows: list[dict[str, Any]]) -> list[str]:
    """The table as text: a head, and a line for each row."""
    variants = [name for name in ("eager", "compile") if any(f"torch_{name}" in row for row in rows)]
    head = f"{'network':9s} {'side':>5s} {'type':9s} {'batch':>5s} {'jax ms':>9s}"
    head += "".join(f" {'torch ' + name + ' ms':>17s} {'ratio':>6s}" for name in variants)
    head += f" {'TFLOP/s':>8s} {'roofline':>8s} {'MiB':>7s} {'compile s':>9s}"
    table = [head]
    for row in rows:
        own = row["jax"]
        text = f"{row['network']:9s} {row['side']:5d} {row['dtype']:9s} {row['batch_size']:5d} {own['milliseconds']:9.2f}"
        for name in variants:
            other = row.get(f"torch_{name}", {})
            shown = f"{other['milliseconds']:17.2f}" if "milliseconds" in other else f"{'failed':>17s}"
            text += f" {shown} {other.get('speed_ratio', float('nan')):6.2f}"
        text += f" {own.get('flops_per_second', float('nan')) / 1e12:8.2f}"
        text += f" {own.get('roofline_share', float('nan')):8.1%} {own.get('peak_bytes', float('nan')) / 2**20:7.0f}"
        table.append(f"{text} {own['compile_seconds']:9.1f}")
    return table if variants else [*table, "without PyTorch: its columns are left out"]


def main() -> None:
    """Prints the table and writes it as JSON; ends with status 1 where a row failed."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--torch_python", help="an interpreter with torch; without it, no PyTorch")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "train_step.json")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--minutes", type=float, default=8.0, help="no row starts when they are over")
    parser.add_argument("--only", default="", metavar="TEXT", help="rows whose title contains it")
    options = parser.parse_args()
    cpu = jax.default_backend() == "cpu"
    about = {"hardware": hardware(), "versions": versions(), "load_average": os.getloadavg()}
    latest: dict[str, Any] = {}

    def record(result: dict[str, Any]) -> None:
        latest.update(result)
        options.out.parent.mkdir(parents=True, exist_ok=True)
        atomic.write_json(options.out, about | result)

    run(
        [setting for setting in (CPU if cpu else GPU) if options.only in setting.title],
        record,
        torch_python=options.torch_python,
        variants=("eager",) if cpu else ("eager", "compile"),
        deadline=time.monotonic() + 60 * options.minutes,
        rounds=options.rounds,
        round_seconds=2.0 if cpu else 0.3,
    )
    print("\n".join(lines(latest["rows"])))
    for title in latest.get("not_measured", []):
        print(f"not measured, the time was over: {title}")
    if latest["errors"]:
        raise SystemExit("\n".join(latest["errors"]))


if __name__ == "__main__":
    main()
