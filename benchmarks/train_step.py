r"""Time a training step, beside PyTorch's on the same network and the least time that the device allows.

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
import statistics
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import jax

from benchmarks import roofline, torch_process
from benchmarks.jax_step import (
    AUGMENTATION,
    NETWORKS,
    Setting,
    first_state,
    forward_timer,
    jax_step,
    several_timer,
)
from benchmarks.machine import conditions
from benchmarks.torch_process import TorchError, TorchProcess
from benchmarks.torch_row import TorchRow
from kneefair_jax import models
from kneefair_jax.runtime import atomic

# What the keys of a row's `jax` mean; recorded beside them.
ABOUT_COST = {
    "flops": "of one update as written: XLA's cost analysis of the program lowered for the CPU, on every device",
    "flops_compiled": "of the compiled program; on a GPU without the convolutions that cuDNN computes",
    "bytes_accessed": "of the compiled program, as XLA estimates: operands and results of every fusion and kernel, "
    "each as often as it is used, so caches make the true traffic smaller",
    "roofline_share": "the larger of flops over the measured rate of matrix products of that type and bytes_accessed "
    "over the measured rate of a copy, over the time of a step; above 1 where bytes_accessed is too large",
    "arithmetic_share": "the same with arithmetic alone",
}
VARIANTS = ("eager", "compile")  # of PyTorch
STEPS_PER_CALL = 4  # of the program of several steps, on a CPU
ROW_SECONDS = 240.0  # in which PyTorch must have done its part of a row
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


def select(settings: Iterable[Setting], titles: str) -> list[Setting]:
    """The settings whose title contains one of some texts, in the order of the texts.

    Args:
        settings: to choose from.
        titles: texts separated by commas, such as `unet 128,large`; an empty one is in every title.
    """
    settings = tuple(settings)
    words = [text.strip() for text in titles.split(",")]
    return list(dict.fromkeys(s for text in words for s in settings if text in s.title))


def measure(
    setting: Setting,
    network: dict[str, Any],
    limits: roofline.Roofline,
    torch: dict[str, TorchProcess],
    folder: Path,
    deadline: float,
    rounds: int,
    round_seconds: float,
    extra: bool = False,
) -> dict[str, Any]:
    """One row of the table.

    Args:
        setting: of the row.
        network: the config's `model` section.
        limits: of the device.
        torch: PyTorch's processes: `torch_eager`, `torch_compile`, or none.
        folder: for the parameters.
        deadline: on the clock `time.monotonic`, by which PyTorch must have answered.
        rounds: of timings.
        round_seconds: how long each side is timed in each round, about.
        extra: whether the forward pass at test time and `STEPS_PER_CALL` steps as one program are timed, too
            (`add_extra`).
    """
    start = first_state(setting, network)
    row: dict[str, Any] = setting._asdict() | {"parameters": models.registry.count(start.params)}
    side = TorchRow(torch, row, min(deadline, time.monotonic() + ROW_SECONDS)) if torch else None
    try:
        if side:
            side.build(setting, network, start.params, folder)
        jax_side = jax_step(setting, network, start)
        row["jax"] = jax_side.cost | {"first": jax_side.first}
        if side:
            side.await_build()
            side.check_losses(setting.dtype, jax_side.first["loss"])
            side.time(2)
        jax_side.run(2)
        updates = max(2, min(100, round(1e3 * round_seconds / jax_side.run(2))))
        jax_rounds: list[float] = []
        torch_rounds: dict[str, list[float]] = {}
        for _ in range(rounds):
            jax_rounds.append(jax_side.run(updates))
            for key, milliseconds in (side.time(updates) if side else {}).items():
                torch_rounds.setdefault(key, []).append(milliseconds)
        if extra:
            run = forward_timer(setting, network, start)
            run(1)
            passes = max(2, min(100, round(1e3 * round_seconds / run(2))))
            forward_rounds = [(run(passes), side.time_forward(passes) if side else {}) for _ in range(rounds)]
            add_extra(row, "forward", forward_rounds)
            run = several_timer(setting, network, start, STEPS_PER_CALL)
            run(1)
            count = max(STEPS_PER_CALL, updates)
            add_extra(
                row, "several", [(run(count), side.time(updates) if side else {}) for _ in range(rounds)]
            )
    finally:
        if side:
            side.free()
    row["updates"] = updates
    cost = row["jax"]
    cost |= {"milliseconds": statistics.median(jax_rounds), "rounds": jax_rounds}
    for key, values in torch_rounds.items():
        # More than 1: this package is the faster.
        ratios = [
            torch_milliseconds / milliseconds
            for milliseconds, torch_milliseconds in zip(jax_rounds, values, strict=False)
        ]
        row[key] |= {
            "milliseconds": statistics.median(values),
            "rounds": values,
            "speed_ratio": statistics.median(ratios),
        }
    add_rates(row, limits)
    return row


def add_extra(row: dict[str, Any], name: str, rounds: list[tuple[float, dict[str, float]]]) -> None:
    """Adds `NAME_milliseconds`, the medians, and `NAME_ratio`, PyTorch's median ratio to this package's time.

    Args:
        row: with `jax` and PyTorch's variants.
        name: what is timed: `forward`, a forward pass; `several`, a step among `STEPS_PER_CALL` of one program.
        rounds: milliseconds of this package, and of PyTorch by variant.
    """
    row["jax"][f"{name}_milliseconds"] = statistics.median(milliseconds for milliseconds, _ in rounds)
    for key in {key for _, torch in rounds for key in torch}:
        pairs = [(milliseconds, torch[key]) for milliseconds, torch in rounds if key in torch]
        row[key][f"{name}_milliseconds"] = statistics.median(torch_value for _, torch_value in pairs)
        row[key][f"{name}_ratio"] = statistics.median(torch_value / value for value, torch_value in pairs)


def add_rates(row: dict[str, Any], limits: roofline.Roofline) -> None:
    """Adds to a row what follows from its time, its FLOPs and the device's limits.

    Keys of `row["jax"]`: `flops_per_second`; `arithmetic_share`, the least time of the arithmetic over the time of a
    step; `roofline_share`, the same for the larger of arithmetic and memory traffic.
    """
    cost = row["jax"]
    if "flops" not in cost:
        return
    seconds = cost["milliseconds"] / 1e3
    cost["flops_per_second"] = cost["flops"] / seconds
    for name, accessed in (("arithmetic_share", 0.0), ("roofline_share", cost.get("bytes_accessed", 0.0))):
        cost[name] = limits.seconds(row["dtype"], cost["flops"], accessed) / seconds


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
    extra: bool = False,
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
        extra: as for `measure`.
    """
    limits = limits or roofline.measure()
    result: dict[str, Any] = {"roofline": limits._asdict(), "about": ABOUT_COST, "rows": [], "errors": []}
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        torch: dict[str, TorchProcess] = {}

        def start_torch() -> None:
            for key in [f"torch_{name}" for name in variants] if torch_python else []:
                if key in torch and torch[key].alive:
                    continue
                try:
                    torch[key] = stack.enter_context(torch_process.start(torch_python))
                    result["torch"] = torch[key].versions
                except TorchError as error:
                    torch.pop(key, None)
                    result["errors"].append(f"{key}: {error}")

        start_torch()
        record(result)
        for setting in settings:
            if time.monotonic() > deadline - least_seconds:
                result.setdefault("not_measured", []).append(setting.title)
                continue
            try:
                if not all(process.alive for process in torch.values()):
                    start_torch()
                network = networks[setting.network]
                arguments = (network, limits, torch, folder, deadline, rounds, round_seconds, extra)
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
    sides = {
        "with": jax_step(setting, network, start, AUGMENTATION),
        "without": jax_step(setting, network, start),
    }
    updates = max(2, min(100, round(300 / sides["with"].run(2))))
    times = {name: [] for name in sides}
    for _, name in itertools.product(range(rounds), sides):
        times[name].append(sides[name].run(updates))
    medians = {name: statistics.median(values) for name, values in times.items()}
    return medians | {"ratio": medians["with"] / medians["without"]}


def lines(rows: list[dict[str, Any]]) -> list[str]:
    """The table as text: a head, and a line for each row."""
    variants = [name for name in VARIANTS if any(f"torch_{name}" in row for row in rows)]
    head = f"{'network':9s} {'side':>5s} {'type':9s} {'batch':>5s} {'jax ms':>9s}"
    head += "".join(f" {'torch ' + name + ' ms':>17s} {'ratio':>6s}" for name in variants)
    head += f" {'TFLOP/s':>8s} {'roofline':>8s} {'MiB':>7s} {'compile s':>9s}"
    table = [head]
    for row in rows:
        jax_row = row["jax"]
        text = f"{row['network']:9s} {row['side']:5d} {row['dtype']:9s} {row['batch_size']:5d}"
        text += f" {jax_row['milliseconds']:9.2f}"
        for name in variants:
            torch_row = row.get(f"torch_{name}", {})
            milliseconds = (
                f"{torch_row['milliseconds']:17.2f}" if "milliseconds" in torch_row else f"{'failed':>17s}"
            )
            text += f" {milliseconds} {torch_row.get('speed_ratio', float('nan')):6.2f}"
        text += f" {jax_row.get('flops_per_second', float('nan')) / 1e12:8.2f}"
        text += f" {jax_row.get('roofline_share', float('nan')):8.1%}"
        text += f" {jax_row.get('peak_bytes', float('nan')) / 2**20:7.0f}"
        table.append(f"{text} {jax_row['compile_seconds']:9.1f}")
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
    parser.add_argument(
        "--only", default="", metavar="TEXT,...", help="rows with such a title, in that order"
    )
    options = parser.parse_args()
    cpu = jax.default_backend() == "cpu"
    about = {
        **conditions(),
        "load_average": os.getloadavg(),
    }
    latest: dict[str, Any] = {}

    def record(result: dict[str, Any]) -> None:
        latest.update(result)
        options.out.parent.mkdir(parents=True, exist_ok=True)
        atomic.write_json(options.out, about | result)

    run(
        select(CPU if cpu else GPU, options.only),
        record,
        torch_python=options.torch_python,
        variants=VARIANTS[:1] if cpu else VARIANTS,
        # The last row to start has as much time as the others.
        deadline=time.monotonic() + 60 * options.minutes + ROW_SECONDS,
        least_seconds=ROW_SECONDS,
        rounds=options.rounds,
        round_seconds=2.0 if cpu else 0.3,
        extra=cpu,
    )
    print("\n".join(lines(latest["rows"])))
    for title in latest.get("not_measured", []):
        print(f"not measured, the time was over: {title}")
    if latest["errors"]:
        raise SystemExit("\n".join(latest["errors"]))


if __name__ == "__main__":
    main()
