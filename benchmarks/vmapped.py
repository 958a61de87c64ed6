"""Compare training several models (seeds of a study, group models) by `vmap` with training them in turn.

    python benchmarks/vmapped.py

Both make the same updates, which is checked. Rounds alternate. Training takes turns unless `vmap` wins here.
"""

import argparse
import os
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

import jax
import jax.numpy as jnp
import numpy as np
import optax

from benchmarks.machine import hardware
from kneefair_jax import losses, mitigation, models
from kneefair_jax.data.augment import Augmentation
from kneefair_jax.runtime import atomic, run_directory
from kneefair_jax.training import state, steps

WIDTHS = (8, 16, 32, 64)


def prepared(count: int, side: int, batch_size: int) -> tuple[Any, list[Any], list[Any]]:
    """A training step, the first state of each model, and a batch for each."""
    model = models.UNet(classes=5, widths=WIDTHS)
    objective, optimizer = mitigation.erm(), optax.sgd(1e-2)
    step = steps.make_train_step(
        steps.StepDefinition(
            model,
            losses.dice_cross_entropy,
            objective,
            optimizer,
            augmentation=Augmentation(flip=0.5, rotation=10.0),
            flip_table=jnp.arange(5),
            groups=2,
        )
    )
    rng = np.random.default_rng(0)
    created = jax.jit(
        lambda seed: state.create(seed, model, (side, side, 1), optimizer, objective, jnp.array([9, 3]))
    )
    batches = [
        {
            "image": rng.integers(0, 256, (batch_size, side, side, 1), np.uint8),
            "label": rng.integers(0, 5, (batch_size, side, side), np.uint8),
            "group": np.zeros(batch_size, np.int32),
            "mask": np.ones(batch_size, np.float32),
            "weight": np.ones(batch_size, np.float32),
            "position": np.arange(batch_size, dtype=np.int32),
        }
        for _ in range(count)
    ]
    return step, [created(jnp.uint32(seed)) for seed in range(count)], batches


def measure(count: int, side: int, batch_size: int, rounds: int, updates: int) -> dict[str, Any]:
    """Milliseconds for one update of all models, in turns and at once, and the ratio of the two."""
    step, states, batches = prepared(count, side, batch_size)
    single, all_models = jax.jit(step), jax.jit(jax.vmap(step))

    def stacked(trees: list[Any]) -> Any:
        return jax.tree.map(lambda *leaves: jnp.stack(leaves), *trees)

    def in_turns() -> Any:
        return [single(one, batch)[0] for one, batch in zip(states, batches, strict=True)]

    together, batch = stacked(states), stacked(batches)

    def at_once() -> Any:
        return all_models(together, batch)[0]

    largest_difference = max(
        float(jnp.abs(one - other).max())
        for one, other in zip(
            jax.tree.leaves(stacked(in_turns()).params), jax.tree.leaves(at_once().params), strict=True
        )
    )
    times: dict[str, list[float]] = {"in turns": [], "vmap": []}
    for _ in range(rounds):
        times["in turns"].append(_milliseconds(in_turns, updates))
        times["vmap"].append(_milliseconds(at_once, updates))
    ratios = [turns / vmap for turns, vmap in zip(times["in turns"], times["vmap"], strict=True)]
    return {
        "models": count,
        "side": side,
        "batch_size": batch_size,
        "largest_difference_of_a_parameter": largest_difference,
        "milliseconds": {name: statistics.median(values) for name, values in times.items()},
        "vmap_speed_up": statistics.median(ratios),
        "rounds": times,
    }


def _milliseconds(update: Callable[[], Any], updates: int) -> float:
    start = time.perf_counter()
    for _ in range(updates):
        state = update()
    jax.block_until_ready(state)
    return 1e3 * (time.perf_counter() - start) / updates


def main() -> None:
    """Prints what it finds and writes it as JSON."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "vmapped.json")
    parser.add_argument("--models", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--updates", type=int, default=10)
    options = parser.parse_args()
    sizes = [measure(options.models, side, 8, options.rounds, options.updates) for side in (64, 128)]
    about = {
        "hardware": hardware(),
        "environment": run_directory.environment(),
        "load_average": os.getloadavg(),
    }
    options.out.parent.mkdir(parents=True, exist_ok=True)
    atomic.write_json(options.out, about | {"sizes": sizes})
    for size in sizes:
        print(
            f"{size['models']} models at {size['side']} x {size['side']}: {size['milliseconds']['in turns']:.0f} ms in "
            f"turns, {size['milliseconds']['vmap']:.0f} ms by vmap, {size['vmap_speed_up']:.2f} times as fast"
        )


if __name__ == "__main__":
    main()
