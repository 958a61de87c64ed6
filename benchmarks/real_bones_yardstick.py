"""How well a network segments films of real bones once it was trained on films of others: a yardstick.

    python -m benchmarks.real_bones_yardstick BONES PROJECT.py --workdir DIR [--checkpoint phantom-v2] [--steps 300]

BONES and PROJECT.py are those of `benchmarks.real_bones`. Every second knee is to train on: `--films` films of each, of
another seed than those that are scored. `configs/finetune.py` trains the checkpoint's network on them, from its
weights, and both are scored on the films of the other knees. A network that has seen such films shows how far the
other's errors come from unlike films, and how far from the films' resolution and noise. It is not shipped.
"""

import argparse
import csv
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image

from benchmarks import real_bones
from benchmarks.machine import hardware
from kneefair_jax import anatomy, predict, weights
from kneefair_jax.runtime import atomic, run_directory

ROOT = Path(__file__).parents[1]
SEED = 10  # of the training films
STRUCTURES = anatomy.SCHEMES["knee_overlaps"]
LEARNING_RATE = 5e-4


def cohort(films: Path, out: Path, knees: list[str]) -> None:
    """Write a folder as in configs/folder.py: the films of some knees with masks of overlap classes.

    Args:
        films: of `real_bones.films`.
        out: the folder; created.
        knees: their `patient_id`; the films of the last are for validation and the report.
    """
    (out / "masks").mkdir(parents=True, exist_ok=True)
    if not (out / "images").exists():
        (out / "images").symlink_to((films / "images").resolve())
    with (films / "metadata.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["patient_id"] in knees]
    for row in rows:
        Image.fromarray(label(np.load(films / "outlines" / f"{row['case_id']}.npz"))).save(out / row["mask"])
        number = int(row["case_id"].rpartition("-")[2])
        last = row["patient_id"] == knees[-1]
        row["split"] = ("validation", "test")[number % 2] if last and number < 4 else "train"
        row["knee"] = row["patient_id"]
        if last:  # no patient is in two splits
            row["patient_id"] += f"-{number}"
    with (out / "metadata.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def label(outlines: dict[str, np.ndarray]) -> np.ndarray:
    """Return labels u8[H, W] of `knee_overlaps` from outlines bool[H, W]; the tibia lies behind the femur."""
    femur, tibia, patella = (outlines[name] for name in ("femur", "tibia", "patella"))
    values = {name: 1 + STRUCTURES.index(name) for name in STRUCTURES}
    result = np.where(tibia, values["tibia"], 0)
    result = np.where(femur, values["femur"], result)
    result = np.where(patella, np.where(femur, values["femur and patella"], values["patella"]), result)
    return result.astype(np.uint8)


def train(folder: Path, run: Path, checkpoint: str, steps: int, batch_size: int) -> Path:
    """Train and export; a run that was exported is kept, and one that was stopped goes on."""
    exported = run / "export"
    if exported.exists():
        return exported
    about = weights.load(checkpoint).about
    fields = {
        "data.root": folder.resolve(),
        "data.split_column": "split",
        "data.structures": "knee_overlaps",
        "data.attributes": "('knee',)",
        "data.bins": "{}",
        "data.size": f"({about['grid'][0]}, {about['grid'][1]})",
        "model.widths": tuple(about["network"]["widths"]),
        "model.norm": about["network"]["norm"],
        "init_from": checkpoint,
        "optimizer.learning_rate": LEARNING_RATE,
        "train.batch_size": batch_size,
        "train.steps": steps,
        "train.eval_every": max(1, steps // 3),
        "report.bootstrap": 1000,
    }
    command = [sys.executable, "launch.py", "--config=configs/finetune.py", f"--workdir={run.resolve()}"]
    command += [f"--config.{field}={value}" for field, value in fields.items()]
    subprocess.run(command, cwd=ROOT, check=True)
    subprocess.run([sys.executable, "-m", "kneefair_jax.export", run.resolve()], cwd=ROOT, check=True)
    return exported


def main() -> None:
    """Train, print the scores of both networks on the other knees, and write them as JSON."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("bones", type=Path)
    parser.add_argument("script", type=Path)
    parser.add_argument("--workdir", type=Path, required=True)
    parser.add_argument("--checkpoint", default="phantom-v2")
    parser.add_argument("--films", type=int, default=40, help="of each knee to train on")
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--batch_size", type=int, default=4)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1], help="of the films to score")
    parser.add_argument(
        "--out", type=Path, default=Path(__file__).parent / "results" / "real_bones_yardstick.json"
    )
    options = parser.parse_args()
    knees = sorted(path.stem for path in options.bones.glob("*.npz"))
    training, test = knees[::2], knees[1::2]
    films = real_bones.films(options.bones, options.script, options.workdir, SEED, options.films)
    cohort(films, options.workdir / "cohort", training)
    run = train(
        options.workdir / "cohort",
        options.workdir / "run",
        options.checkpoint,
        options.steps,
        options.batch_size,
    )
    results: dict[str, Any] = {}
    for name, checkpoint in (("yardstick", str(run)), (options.checkpoint, options.checkpoint)):
        predictor = predict.load(checkpoint, batch_size=8)
        scores = []
        for seed in options.seeds:
            folder = real_bones.films(options.bones, options.script, options.workdir, seed, real_bones.FILMS)
            of_seed = real_bones.score(predictor, folder)
            scores.append(of_seed[of_seed.index.str.rsplit("-", n=1).str[0].isin(test)])
        results[name] = real_bones.summary(pd.concat(scores, keys=options.seeds))
        print(f"{name}\n{real_bones.table(results[name])}", flush=True)
    about = {"hardware": hardware(), "environment": run_directory.environment()}
    settings = {
        "checkpoint": options.checkpoint,
        "knees to train on": training,
        "films of each": options.films,
        "steps": options.steps,
        "batch_size": options.batch_size,
        "learning_rate": LEARNING_RATE,
        "seeds": options.seeds,
    }
    atomic.write_json(options.out, about | settings | {"dice": results})


if __name__ == "__main__":
    main()
