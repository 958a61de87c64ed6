r"""Measure the wall time until a validation Dice is reached, beside a plain PyTorch loop with the same recipe.

    python -m benchmarks.time_to_quality --torch_python=PYTHON_WITH_TORCH [--jsrt FOLDER]

The phantoms of configs/quickstart.py, or with --jsrt the chest radiographs of JSRT by configs/folder.py. Both sides
have the same prepared cases, network and first parameters, augmentation strengths, loss, optimizer, learning rates,
batch size and evaluations, in float32. This package runs the functions of a run without checkpoints and logs, with
`train.steps_per_call=5`. PyTorch runs `benchmarks/torch_training.py`: eager mode, channels last, all cases in memory.
They take turns, seed by seed; the side patch2 is this package with `model.stem=patch2`, another network. --seeds and
--sides select a part; its rows join those of the same machine and commit in the JSON file. The torch environment is one
of its own: pip install torch numpy safetensors.
"""

import argparse
import itertools
import json
import os
import statistics
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental.compilation_cache import compilation_cache
from ml_collections import ConfigDict
from safetensors.numpy import save_file

from benchmarks import scaling, torch_process
from benchmarks.machine import conditions
from benchmarks.quality_comparison import SIDES, merged, reached
from benchmarks.torch_row import torch_arrays
from configs import folder as folder_config
from configs import quickstart
from kneefair_jax import anatomy
from kneefair_jax.data import cohort_loader, pipeline, store
from kneefair_jax.data.cohort_loader import Cohort
from kneefair_jax.data.pipeline import Arrays
from kneefair_jax.runtime import atomic
from kneefair_jax.training import scoring, setup
from kneefair_jax.training.state import learning_rate

TARGETS = {"quickstart": 0.95, "jsrt": 0.96}
EVAL_EVERY = 25  # steps
STEPS_PER_CALL = 5  # `train.steps_per_call`
TIMING = {"rounds": 5, "updates": 10}
PREFIX = "parameters."  # of PyTorch's state dict among the arrays


def configure(jsrt: Path | None) -> ConfigDict:
    """The config of the chest radiographs in a folder, or of the quick start."""
    config = folder_config.get_config() if jsrt else quickstart.get_config()
    if jsrt:
        config.data.root, config.data.structures = str(jsrt), "chest"
    config.train.eval_every, config.train.steps_per_call = EVAL_EVERY, STEPS_PER_CALL
    return config


class JaxTraining:
    """A run of this package: its functions, its batches and its validation.

    Args:
        config: of the run.
        cohort: to train on.
        cases: the prepared cases.
    """

    def __init__(self, config: ConfigDict, cohort: Cohort, cases: Arrays):
        self.experiment = setup.build(config, cohort)
        self.state = self.experiment.state
        self._batch_size, self._cases = config.train.batch_size, cases

    def batches(self) -> Iterator[dict[str, np.ndarray]]:
        """The batches of the run, from its first step."""
        order, group = self.experiment.order, self.experiment.partition.index
        return pipeline.training_batches(self._cases, order, group, batch_size=self._batch_size)

    def steps(self, batches: Sequence[Mapping[str, np.ndarray]]) -> None:
        """Makes an update for each batch, without waiting for its end."""
        placed = tuple(self.experiment.place(dict(batch)) for batch in batches)
        self.state, _ = self.experiment.train_steps(self.state, placed)

    def evaluate(self) -> float:
        """Mean Dice of the validation cases, over cases and structures."""
        scores = scoring.predict_cases(
            self.experiment.eval_step,
            self.state.variables,
            self._cases,
            self.experiment.validation,
            group=self.experiment.partition.index,
            batch_size=self._batch_size,
        )
        return float(np.nanmean(scores["dice"]))


def configure_side(config: ConfigDict, side: str) -> ConfigDict:
    """The config with the network of a side of `quality_comparison.SIDES`."""
    config = config.copy_and_resolve_references()
    if side == "patch2":
        config.model.stem = "patch2"
    return config


def start_jax(config: ConfigDict, cohort: Cohort, cases: Arrays) -> tuple[JaxTraining, float, float]:
    """Builds a training and compiles it by an evaluation and an update, which leaves its state as it was.

    Returns:
        The training, the seconds that this took, and the Dice before the first step.
    """
    begin = time.perf_counter()
    training = JaxTraining(config, cohort, cases)
    first = jax.tree.map(jnp.copy, training.state)
    dice = training.evaluate()
    training.steps([next(training.batches())] * STEPS_PER_CALL)
    jax.block_until_ready(training.state)
    seconds = time.perf_counter() - begin
    training.state = first
    return training, seconds, dice


def train_jax(config: ConfigDict, cohort: Cohort, cases: Arrays) -> dict[str, Any]:
    """Trains by this package.

    Args:
        config: of the run, with `train.steps` and `train.eval_every`.
        cohort: to train on.
        cases: the prepared cases.

    Returns:
        `start_seconds` and `warm_start_seconds`, to build and compile without and with a compilation cache;
        `first_dice` before the first step; `curve`, rows of step, seconds since the first step and validation Dice;
        `evaluation_seconds` of all evaluations.
    """
    cases, cache = pipeline.CachedCases(cases), jax.config.jax_compilation_cache_dir
    with tempfile.TemporaryDirectory() as folder:
        compilation_cache.reset_cache()
        jax.config.update("jax_compilation_cache_dir", folder)
        try:
            jax.clear_caches()
            training, start_seconds, first_dice = start_jax(config, cohort, cases)
            curve, evaluation_seconds = [], 0.0
            begin = time.perf_counter()
            batches = training.batches()
            for step in range(STEPS_PER_CALL, config.train.steps + 1, STEPS_PER_CALL):
                training.steps(list(itertools.islice(batches, STEPS_PER_CALL)))
                if step % config.train.eval_every == 0:
                    jax.block_until_ready(training.state)
                    evaluation_begin = time.perf_counter()
                    dice = training.evaluate()
                    evaluation_seconds += time.perf_counter() - evaluation_begin
                    curve.append([step, time.perf_counter() - begin, dice])
            jax.clear_caches()
            _, warm_start_seconds, _ = start_jax(config, cohort, cases)
        finally:
            jax.config.update("jax_compilation_cache_dir", cache)
            compilation_cache.reset_cache()
    return {
        "start_seconds": start_seconds,
        "warm_start_seconds": warm_start_seconds,
        "first_dice": first_dice,
        "curve": curve,
        "evaluation_seconds": evaluation_seconds,
    }


def time_jax(
    config: ConfigDict, cohort: Cohort, cases: Arrays, rounds: int, updates: int
) -> dict[str, float]:
    """Median milliseconds of a step with and without augmentation, in turns, and of an evaluation."""
    plain = config.copy_and_resolve_references()
    plain.augment = dict.fromkeys(plain.augment, 0.0)
    cases = pipeline.CachedCases(cases)
    trainings = {
        "step": start_jax(config, cohort, cases)[0],
        "step_without_augmentation": start_jax(plain, cohort, cases)[0],
    }
    batch = next(trainings["step"].batches())
    times: dict[str, list[float]] = {name: [] for name in (*trainings, "evaluation")}
    for _ in range(rounds):
        for name, training in trainings.items():
            begin = time.perf_counter()
            for _ in range(updates // STEPS_PER_CALL):
                training.steps([batch] * STEPS_PER_CALL)
            jax.block_until_ready(training.state)
            times[name].append(1e3 * (time.perf_counter() - begin) / updates)
        begin = time.perf_counter()
        trainings["step"].evaluate()
        times["evaluation"].append(1e3 * (time.perf_counter() - begin))
    return {name: statistics.median(values) for name, values in times.items()}


def write_inputs(config: ConfigDict, cohort: Cohort, cases: Arrays, folder: Path) -> None:
    """Writes what `benchmarks.torch_training` reads: `arrays.safetensors` and `recipe.json`."""
    arrays = {"flip_table": anatomy.flip_table(cohort.structures).astype(np.uint8)}
    for split, prefix in (("train", ""), ("validation", "validation_")):
        examples = [cases[row] for row in cohort.rows(split)]
        images = np.stack([example["image"] for example in examples])
        arrays[f"{prefix}image"] = np.ascontiguousarray(images.transpose(0, 3, 1, 2))
        arrays[f"{prefix}label"] = np.stack([example["label"] for example in examples])
    rates = jax.vmap(learning_rate(config.optimizer, config.train.steps))(jnp.arange(config.train.steps))
    arrays["learning_rate"] = np.asarray(rates, np.float32)
    params = jax.device_get(setup.build(config, cohort).state.params)
    arrays |= {PREFIX + name: array for name, array in torch_arrays(params).items()}
    save_file(arrays, folder / "arrays.safetensors")
    recipe = {
        "network": config.model.to_dict(),
        "structures": len(cohort.structures),
        "augment": config.augment.to_dict(),
        "clip_norm": config.optimizer.clip_norm,
        "seed": config.seed,
        **{name: config.train[name] for name in ("batch_size", "steps", "eval_every")},
        "timing": TIMING,
    }
    atomic.write_json(folder / "recipe.json", recipe)


def train_torch(config: ConfigDict, cohort: Cohort, cases: Arrays, python: str) -> dict[str, Any]:
    """Trains by PyTorch in another interpreter: as `train_jax`, with `milliseconds`, `torch` and `threads`."""
    with tempfile.TemporaryDirectory() as name:
        write_inputs(config, cohort, cases, Path(name))
        process = subprocess.run(
            [python, "-m", "benchmarks.torch_training", name],
            cwd=torch_process.ROOT,
            env=torch_process.environment(),
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        )
    result: dict[str, Any] = json.loads(process.stdout.splitlines()[-1])
    return result


def main() -> None:
    """Trains, prints a line for each run and writes the JSON file after each."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--torch_python", help="an interpreter with torch; without it, no PyTorch")
    parser.add_argument("--jsrt", type=Path, metavar="FOLDER", help="chest radiographs instead of phantoms")
    parser.add_argument("--seeds", default="0,1,2", metavar="N,...")
    parser.add_argument("--sides", default=",".join(SIDES), metavar="SIDE,...")
    parser.add_argument(
        "--out", type=Path, default=Path(__file__).parent / "results" / "time_to_quality.json"
    )
    options = parser.parse_args()
    config, name = configure(options.jsrt), "jsrt" if options.jsrt else "quickstart"
    with tempfile.TemporaryDirectory() as folder:
        cohort = cohort_loader.load(config.data, config.data.seed)
        prepared, _ = cohort_loader.prepare(
            config.data, config.data.seed, cohort, None, Path(folder), store.Options()
        )
        cohort, cases = prepared.cohort, prepared.cases
        section = {
            "target": TARGETS[name],
            "steps": config.train.steps,
            "eval_every": config.train.eval_every,
            "batch_size": config.train.batch_size,
            "size": list(cohort.grid),
            "cases": {split: len(cohort.rows(split)) for split in ("train", "validation")},
            **conditions(),
            "commit": scaling.commit(),
        }
        for seed in map(int, options.seeds.split(",")):
            config.seed = seed
            for side in options.sides.split(","):
                if side == "pytorch" and not options.torch_python:
                    continue
                load = os.getloadavg()[0]
                if side == "pytorch":
                    run = train_torch(config, cohort, cases, options.torch_python)
                else:
                    own = configure_side(config, side)
                    run = train_jax(own, cohort, cases)
                    run["milliseconds"] = time_jax(own, cohort, cases, **TIMING)
                run = {"side": side, "seed": seed, "load_average": load} | run
                earlier = json.loads(options.out.read_text()) if options.out.exists() else {}
                atomic.write_json(options.out, merged(earlier, name, section, run))
                hit, last = reached(run["curve"], TARGETS[name]), run["curve"][-1]
                print(
                    f"{name} seed {seed} {side}: {TARGETS[name]} "
                    + (f"at step {hit[0]} after {hit[1]:.1f} s" if hit else "not reached")
                    + f"; start {run['start_seconds']:.1f} s; Dice {last[2]:.4f} after {last[1]:.1f} s",
                    flush=True,
                )


if __name__ == "__main__":
    main()
