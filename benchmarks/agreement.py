"""Compare runs on one device, on eight and in two processes of two, by jit and by pmap: they must be the same.

    python benchmarks/agreement.py

The same 20 steps of a phantom run with group DRO, batch normalisation, augmentation and Adam, in processes of their own
on forced CPU devices, each compared with one device. In float32 the first gradient must agree to 1e-6; Adam divides
small gradients by their own size, so that the parameters after 20 steps are compared in float64, to 1e-9. In float32
nothing is warped, since warped labels are rounded to one or the other; and the network is small, since a ReLU whose
input is within rounding of 0 may be open in one layout alone. At 64 x 64 with widths (8, 16, 32) the float32 gradients
of one and eight devices were once 1e-3 apart, in all layers before one normalisation and in none behind it.
"""

import argparse
import json
import os
import socket
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

sys.path.insert(0, str(Path(__file__).parents[1]))

import jax
import jax.numpy as jnp
import numpy as np
import optax
from ml_collections import ConfigDict

from benchmarks.machine import hardware
from configs import quickstart
from kneefair_jax.data import cohort_loader, pipeline, store
from kneefair_jax.runtime import atomic, distributed, run_directory
from kneefair_jax.training import setup


class Layout(NamedTuple):
    """How a run is spread."""

    processes: int
    devices: int  # of each process
    parallel: str


LAYOUTS = {
    "1 device": Layout(1, 1, "jit"),
    "8 devices, jit": Layout(1, 8, "jit"),
    "8 devices, pmap": Layout(1, 8, "pmap"),
    "2 processes x 2 devices, jit": Layout(2, 2, "jit"),
    "2 processes x 2 devices, pmap": Layout(2, 2, "pmap"),
}
STEPS = 20
WHAT = ("gradient", "parameters", "batch_statistics", "group_weights", "losses")
ASKED = {("float32", "gradient"): 1e-6} | {("float64", name): 1e-9 for name in WHAT}


def config_of(dtype: str, parallel: str) -> ConfigDict:
    """A phantom run, small enough to be made ten times."""
    config = quickstart.get_config()
    config.data.size = (32, 32)
    config.data.phantom.patients = 48
    config.model.update({"widths": (4, 8), "dtype": dtype})
    if dtype == "float32":
        config.augment.update({"rotation": 0.0, "scale": 0.0, "shift": 0.0})
    config.mitigation.update({"objective": {"name": "group_dro"}, "groups": ("sex",)})
    config.optimizer.update({"warmup_steps": 2, "clip_norm": 0.0})
    config.train.update({"steps": STEPS, "batch_size": 8})
    config.parallel = parallel
    return config


def widened(tree: Any) -> Any:
    """The same with every float in float64."""
    return jax.tree.map(lambda x: x.astype(jnp.float64) if jnp.issubdtype(x.dtype, jnp.floating) else x, tree)


def run(dtype: str, parallel: str, directory: Path, out: Path) -> None:
    """Makes the steps and writes what came of them: this process's share of the order, and the rest alike in all."""
    config = config_of(dtype, parallel)
    cohort = cohort_loader.load(config.data, config.data.seed)
    cases = store.prepare(cohort.source, cohort.grid, directory)
    experiment = setup.build(config, cohort)
    state = experiment.state
    if dtype == "float64":
        state = jax.jit(widened)(state)
    batches = pipeline.training_batches(
        cases,
        experiment.order,
        experiment.partition.index,
        batch_size=config.train.batch_size,
        host=jax.process_index(),
        hosts=jax.process_count(),
    )
    losses, order, gradient = [], [], None
    for _, batch in zip(range(STEPS), batches, strict=False):
        order.append([batch["position"], batch["case"]])
        if dtype == "float64":
            batch = batch | {"image": batch["image"] / 255.0}
        state, metrics = experiment.train_step(state, experiment.place(batch))
        losses.append(metrics["loss"])
        if gradient is None:
            # Adam's first moment after one step is a tenth of the gradient.
            gradient = jax.device_get(optax.tree.get(state.opt_state, "mu"))
    trees = {
        "gradient": gradient,
        "parameters": state.params,
        "batch_statistics": state.batch_stats,
        "group_weights": state.objective,
        "losses": losses,
    }
    leaves = {
        f"{name}/{number}": np.asarray(jax.device_get(leaf))
        for name, tree in trees.items()
        for number, leaf in enumerate(jax.tree.leaves(tree))
    }
    np.savez(out, order=np.array(order), **leaves)


def made_by(layout: Layout, dtype: str, directory: Path, out: Path) -> dict[str, np.ndarray]:
    """Starts a layout's processes; returns what the first wrote, with the order of cases that all of them read."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    environment = os.environ | {"JAX_NUM_CPU_DEVICES": str(layout.devices), "JAX_PLATFORMS": "cpu"}
    environment["JAX_ENABLE_X64"] = str(int(dtype == "float64"))
    files = [out / f"{process}.npz" for process in range(layout.processes)]
    processes = []
    for process, file in enumerate(files):
        flags = [f"--dtype={dtype}", f"--parallel={layout.parallel}", f"--store={directory}", f"--to={file}"]
        if layout.processes > 1:
            flags += [f"--coordinator={address}", f"--processes={layout.processes}", f"--process={process}"]
        processes.append(
            subprocess.Popen([sys.executable, __file__, *flags], env=environment, stdout=subprocess.DEVNULL)
        )
    if any([process.wait() for process in processes]):
        raise SystemExit(f"{layout} failed")
    result = dict(np.load(files[0]))
    position, case = np.concatenate([np.load(file)["order"] for file in files], axis=-1).swapaxes(0, 1)
    result["order"] = np.take_along_axis(case, position.argsort(-1), -1)
    return result


def compared(result: dict[str, np.ndarray], reference: dict[str, np.ndarray]) -> dict[str, Any]:
    """By what is compared, the norm of the difference over the norm of what one device has."""
    differences: dict[str, Any] = {"order": bool((result["order"] == reference["order"]).all())}
    for name in WHAT:
        keys = [key for key in reference if key.startswith(f"{name}/")]
        reference_vector, vector = (
            np.concatenate([tree[key].ravel().astype(float) for key in keys]) for tree in (reference, result)
        )
        differences[name] = float(
            np.linalg.norm(vector - reference_vector) / np.linalg.norm(reference_vector)
        )
    return differences


def main() -> None:
    """Prints what it finds and writes it as JSON; ends with status 1 where they disagree."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "agreement.json")
    for name in ("dtype", "parallel", "store", "to", "coordinator"):
        parser.add_argument(f"--{name}", default="", help=argparse.SUPPRESS)
    parser.add_argument("--processes", type=int, default=1, help=argparse.SUPPRESS)
    parser.add_argument("--process", type=int, default=0, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.to:
        if options.coordinator:
            distributed.start(options.coordinator, options.processes, options.process)
        run(options.dtype, options.parallel, Path(options.store), Path(options.to))
        return
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as name:
        for dtype in ("float32", "float64"):
            reference = None
            for layout, spread in LAYOUTS.items():
                out = Path(name) / dtype / layout
                out.mkdir(parents=True)
                arrays = made_by(spread, dtype, Path(name) / "store", out)
                reference = reference or arrays
                row = {"layout": layout, "dtype": dtype, **compared(arrays, reference)}
                rows.append(row)
                print(
                    "  ".join(
                        f"{value:.1e}" if isinstance(value, float) else str(value) for value in row.values()
                    )
                )
    good = all(row["order"] for row in rows)
    good &= all(
        row[what] <= limit for row in rows for (dtype, what), limit in ASKED.items() if row["dtype"] == dtype
    )
    result = {"steps": STEPS, "agree": good, "rows": rows}
    atomic.write_json(
        options.out, {"hardware": hardware(), "environment": run_directory.environment(), **result}
    )
    print(json.dumps({"agree": good}))
    sys.exit(not good)


if __name__ == "__main__":
    main()
