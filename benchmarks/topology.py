"""List what devices send each other in one training step, read from the module that XLA compiles for them.

    TPU_SKIP_MDS_QUERY=1 python benchmarks/topology.py --tpu=v5e:2x4

No TPU is needed: `pip install libtpu` compiles for one that is not there. Without --tpu, forced CPU devices are asked.
What is expected of data parallelism: gradients are summed over devices once a step, and no activation travels.
"""

import argparse
import math
import os
import re
import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))
os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("JAX_NUM_CPU_DEVICES", "8")

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.experimental import topologies
from jax.sharding import AxisType, Mesh

from kneefair_jax import losses, mitigation, models
from kneefair_jax.data.augment import Augmentation
from kneefair_jax.runtime import atomic, run_directory
from kneefair_jax.training import sharding, state, steps
from kneefair_jax.training.sharding import step_cost

MOVES = "all-reduce|all-gather|all-to-all|collective-permute|reduce-scatter|collective-broadcast"
INSTRUCTION = re.compile(rf"= (\(.*?\)|\S+) ({MOVES})(?:-start)?\(")
ARRAY = re.compile(r"\b(pred|[suf]\d+|bf16)\[([\d,]*)\]")
CASES = {
    "batch normalisation": {"norm": "batch"},
    "group normalisation": {"norm": "group"},
    "group normalisation, accumulation 4": {"norm": "group", "parts": 4},
}


def collectives(module: str) -> list[dict[str, Any]]:
    """Return the instructions of a compiled module that move data between devices.

    Args:
        module: `compiled.as_text()`.

    Returns:
        `kind`, the `shapes` of the results and their `bytes`, of each instruction.
    """
    instructions = []
    for result, kind in INSTRUCTION.findall(module):
        arrays = [(dtype, [int(n) for n in shape.split(",") if n]) for dtype, shape in ARRAY.findall(result)]
        size = sum(math.prod(shape) * _bytes(dtype) for dtype, shape in arrays)
        instructions.append({"kind": kind, "shapes": [shape for _, shape in arrays], "bytes": size})
    return instructions


def summary(moves: list[dict[str, Any]]) -> dict[str, Any]:
    """All-reduces of gradients (kernels are of several dimensions), those of vectors and numbers, and all else.

    Vectors are statistics of a normalisation and their gradients; numbers are losses, weights and what is reported.
    """
    reduced = [move for move in moves if move["kind"] == "all-reduce"]
    gradients = [move for move in reduced if any(_dimensions(shape) > 1 for shape in move["shapes"])]
    small = [move for move in reduced if move not in gradients]
    return {
        "gradients": {"all_reduces": len(gradients), "bytes": sum(move["bytes"] for move in gradients)},
        "statistics_and_sums": {"all_reduces": len(small), "bytes": sum(move["bytes"] for move in small)},
        "other": [move for move in moves if move["kind"] != "all-reduce"],
    }


def compiled_step(
    devices: np.ndarray,
    *,
    norm: str,
    parts: int = 1,
    side: int = 64,
    widths: tuple[int, ...] = (8, 16, 32),
) -> tuple[jax.stages.Compiled, int]:
    """The training step for these devices, four cases on each, and the bytes of its parameters."""
    model = models.UNet(classes=5, widths=widths, norm=norm)
    objective, optimizer = mitigation.group_balanced(), optax.adam(1e-3)
    definition = steps.StepDefinition(
        model,
        losses.dice_cross_entropy,
        objective,
        optimizer,
        augmentation=Augmentation(flip=0.5),
        flip_table=jnp.arange(5),
        groups=2,
        options=steps.StepOptions(micro_batches=parts),
    )
    step = steps.make_train_step(definition)
    mesh = Mesh(devices, (sharding.AXIS,), axis_types=(AxisType.Auto,))
    first = jax.eval_shape(
        lambda: state.create(jnp.uint32(0), model, (side, side, 1), optimizer, objective, jnp.array([9, 3]))
    )
    size = 4 * len(devices)
    batch = {
        "image": jax.ShapeDtypeStruct((size, side, side, 1), jnp.uint8),
        "label": jax.ShapeDtypeStruct((size, side, side), jnp.uint8),
        **{name: jax.ShapeDtypeStruct((size,), jnp.int32) for name in ("group", "position")},
        **{name: jax.ShapeDtypeStruct((size,), jnp.float32) for name in ("weight", "mask")},
    }
    run = jax.jit(step, donate_argnums=0, in_shardings=(sharding.replicated(mesh), sharding.split(mesh)))
    return run.lower(first, batch).compile(), 4 * models.count(first.params)


def main() -> None:
    """Prints what it finds and writes it as JSON."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--tpu", default="", help="a topology such as v5e:2x4; CPU devices without")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "topology.json")
    options = parser.parse_args()
    devices = jax.devices()
    if options.tpu:
        devices = topologies.get_topology_desc(platform="tpu", topology_name=options.tpu).devices
    rows = {}
    for name, setting in CASES.items():
        start = time.perf_counter()
        compiled, size = compiled_step(np.array(devices), **setting)
        rows[name] = {
            "parameter_bytes": size,
            "seconds_to_compile": round(time.perf_counter() - start, 1),
            "cost": step_cost(
                compiled, (compiled.cost_analysis() or {}).get("flops"), setting.get("parts", 1)
            ),
            **summary(collectives(compiled.as_text())),
        }
        print(f"{name}: {rows[name]}", flush=True)
    atomic.write_json(
        options.out,
        {
            "environment": run_directory.environment(),
            "compiled_for": f"{len(devices)} x {devices[0].device_kind}",
            "topology": options.tpu,
            "steps": rows,
        },
    )


def _bytes(dtype: str) -> int:
    return 1 if dtype == "pred" else int(dtype.lstrip("bsuf")) // 8


def _dimensions(shape: list[int]) -> int:
    return sum(length > 1 for length in shape)


if __name__ == "__main__":
    main()
