"""Compare fine-tuning of the shipped weights with training from scratch, on chest radiographs (JSRT).

    python benchmarks/finetune.py --data DIR --workdir runs/finetune

DIR is a folder as in configs/folder.py, with the column `sex` and labels `chest`. Patients are dealt once: 40 to test,
36 to validation, 170 to train on; the few are ten of these, others for each seed. Each run is configs/finetune.py by
launch.py, for the same number of steps; the arms differ in `init_from` and in the learning rate, which was the best of
several on the validation patients (ten to train on, one seed). The last step's network is tested, so that nothing is
selected on validation patients. Finished runs are not made again.
"""

import argparse
import csv
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.machine import hardware
from kneefair_jax.fairness import patient_bootstrap
from kneefair_jax.runtime import atomic, run_directory

ROOT = Path(__file__).parents[1]
TEST, VALIDATION, TRAIN = 40, 36, 170
PATIENTS = (10, TRAIN)
ARMS: dict[str, dict[str, Any]] = {
    "from scratch": {"init_from": "", "optimizer.learning_rate": 2e-3},
    "fine-tuned": {"init_from": "phantom-v1", "optimizer.learning_rate": 4e-3},
}
TABLE = ("| patients to train on | from scratch | fine-tuned | difference |", "|---|---|---|---|")


def tables(data: Path, folder: Path, seeds: int) -> None:
    """A folder with the images of another and one table for each number of patients and seed."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("images", "masks"):
        if not (folder / name).exists():
            (folder / name).symlink_to((data / name).resolve())
    with (data / "metadata.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    if len({row["patient_id"] for row in rows}) != len(rows) or len(rows) != TEST + VALIDATION + TRAIN:
        sys.exit(f"{data}: this is for {TEST + VALIDATION + TRAIN} patients of one film each")
    rows = [rows[k] for k in np.random.default_rng(0).permutation(len(rows))]
    split = ["test"] * TEST + ["validation"] * VALIDATION + ["train"] * TRAIN
    rows = [{**row, "split": part} for row, part in zip(rows, split, strict=True)]
    for patients in PATIENTS:
        for seed in range(seeds):
            chosen = np.random.default_rng(seed).permutation(TRAIN)[:patients] + TEST + VALIDATION
            with (folder / f"{patients}_{seed}.csv").open("w", newline="") as file:
                writer = csv.DictWriter(file, list(rows[0]))
                writer.writeheader()
                writer.writerows([*rows[: TEST + VALIDATION], *(rows[k] for k in sorted(chosen))])


def train(workdir: Path, arm: str, patients: int, seed: int, steps: int) -> Path:
    """One run's folder, finished."""
    run = workdir / f"{arm.replace(' ', '_')}_{patients}_{seed}"
    if (run / "report" / "report.json").exists():
        return run
    fields = {
        "seed": seed,
        "data.root": workdir / "films",
        "data.metadata": f"{patients}_{seed}.csv",
        "data.split_column": "split",
        "data.structures": "chest",
        "data.attributes": "('sex',)",
        "train.steps": steps,
        "train.eval_every": steps,
        **ARMS[arm],
    }
    flags = [f"--config.{field}={value}" for field, value in fields.items()]
    command = [
        *(sys.executable, "launch.py", "--config=configs/finetune.py", f"--workdir={run.absolute()}"),
        *flags,
    ]
    print(f"{arm}, {patients} patients, seed {seed}", flush=True)
    cache = {"JAX_COMPILATION_CACHE_DIR": str((workdir / "compiled").absolute())}
    subprocess.run(command, cwd=ROOT, env=os.environ | cache, check=True, stdout=subprocess.DEVNULL)
    return run


def dice(run: Path) -> pd.Series:
    """Each test patient's Dice, the mean over structures."""
    cases = pd.read_parquet(run / "cases.parquet")
    return cases[cases["split"] == "test"].groupby("patient_id", observed=True)["dice"].mean()


def compared(runs: dict[str, list[Path]]) -> dict[str, Any]:
    """Compare the arms on the test patients with a Dice in every run: means over seeds, intervals over patients."""
    by_run = {arm: pd.concat([dice(run) for run in its], axis=1) for arm, its in runs.items()}
    complete = pd.concat(by_run, axis=1).dropna().index
    scores = {arm: frame.loc[complete] for arm, frame in by_run.items()}
    scratch, tuned = scores
    each = {arm: frame.mean(axis=1) for arm, frame in scores.items()}
    each["difference"] = each[tuned] - each[scratch]
    stacked = np.stack([series.to_numpy() for series in each.values()], axis=1)
    strata = patient_bootstrap.stratify(stacked.T[:, None], np.full(len(stacked), -1), 1)
    by_arm = patient_bootstrap.intervals(strata, np.random.default_rng(0), 10_000)
    assert by_arm is not None  # there are enough patients
    intervals = [arm.mean for arm in by_arm.methods]
    seeds = {arm: frame.mean().tolist() for arm, frame in scores.items()}
    seeds["difference"] = [b - a for a, b in zip(seeds[scratch], seeds[tuned], strict=True)]
    return {
        name: {"dice": float(series.mean()), "interval": interval, "seeds": seeds[name]}
        for (name, series), interval in zip(each.items(), intervals, strict=True)
    }


def row(patients: str, entry: dict[str, Any]) -> str:
    """A row of the table."""
    cells = []
    for name, value in entry.items():
        sign = "+" if name == "difference" else ""
        low, high = (f"{end:{sign}.3f}" for end in value["interval"])
        cells.append(f"{value['dice']:{sign}.3f} [{low}, {high}]")
    return f"| {patients} | {' | '.join(cells)} |"


def main() -> None:
    """Makes the runs, prints the table and writes it as JSON."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--workdir", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "finetune.json")
    options = parser.parse_args()
    tables(options.data, options.workdir / "films", options.seeds)
    # Seed by seed: whoever stops early has all of the seeds that there are.
    runs: dict[int, dict[str, list[Path]]] = {patients: {arm: [] for arm in ARMS} for patients in PATIENTS}
    for seed in range(options.seeds):
        for patients in PATIENTS:
            for arm in ARMS:
                made = train(options.workdir, arm, patients, seed, options.steps)
                runs[patients][arm].append(made)
    reports = [
        json.loads((run / "report" / "report.json").read_text())["run"]
        for arms in runs.values()
        for its in arms.values()
        for run in its
    ]
    seconds = [report["times"]["train_seconds"] for report in reports]
    environment = run_directory.environment() | {"commits": sorted({report["commit"] for report in reports})}
    found = {
        "arms": ARMS,
        "seeds": options.seeds,
        "steps": options.steps,
        "test_patients": TEST,
        "results": {str(patients): compared(arms) for patients, arms in runs.items()},
        "train_seconds": {"each": seconds, "mean": float(np.mean(seconds))},
    }
    options.out.parent.mkdir(parents=True, exist_ok=True)
    atomic.write_json(options.out, {"hardware": hardware(), "environment": environment} | found)
    print("\n".join(TABLE))
    for patients, entry in found["results"].items():
        print(row(patients, entry))
    print(f"{np.mean(seconds):.0f} s of training a run, {options.steps} steps")


if __name__ == "__main__":
    main()
