"""Train networks on films of some real bones, and score them on films of other bones (Dice).

    python -m benchmarks.real_bones_training yardstick BONES PROJECT.py --workdir DIR
    python -m benchmarks.real_bones_training few BONES PROJECT.py --workdir DIR

BONES and PROJECT.py are those of `benchmarks.real_bones`. Every second knee gives films to train on, of another seed
than those of the other knees, which are scored. `configs/finetune.py` trains; the last step's network is scored.

`yardstick` trains a shipped network, from its weights, on 40 films of each knee: how far do its errors on unlike films
come from the films' resolution and noise? That network is not shipped.

`few` trains on 10 films, from the weights of two shipped networks and from scratch. The learning rate of each is the
better of two on other films of the knees to train on.

Finished runs in DIR are kept, and a run that was stopped goes on.
"""

import argparse
import csv
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from PIL import Image

from benchmarks import real_bones
from benchmarks.machine import hardware
from kneefair_jax import anatomy, weights
from kneefair_jax.runtime import atomic, run_directory

ROOT = Path(__file__).parents[1]
SEED, OTHER_SEED = 10, 11  # of the films to train on, and to choose the learning rate on
STRUCTURES = anatomy.SCHEMES["knee_overlaps"]
CHECKPOINT, EARLIER = "phantom", "phantom-v1"


class Arm(NamedTuple):
    """A network and its training.

    Attributes:
        shape: the shipped network with its widths, normalization and grid.
        init_from: where its first weights come from; "" for random ones.
        rates: learning rates to choose from.
    """

    shape: str
    init_from: str
    rates: tuple[float, ...]


YARDSTICK = Arm(CHECKPOINT, CHECKPOINT, (5e-4,))
FEW = {
    f"from {CHECKPOINT}": Arm(CHECKPOINT, CHECKPOINT, (5e-4, 2e-3)),
    f"from {EARLIER}": Arm(EARLIER, EARLIER, (1e-3, 4e-3)),
    "from scratch": Arm(CHECKPOINT, "", (5e-4, 2e-3)),
}


def cohort(films: Path, out: Path, cases: Sequence[str]) -> None:
    """Write a folder as in configs/folder.py: films to train on, with masks of overlap classes.

    Validation and test need films too; they are the first two, as patients of their own, and choose nothing.

    Args:
        films: of `real_bones.films`.
        out: the folder; created.
        cases: their `case_id`.
    """
    (out / "masks").mkdir(parents=True, exist_ok=True)
    if not (out / "images").exists():
        (out / "images").symlink_to((films / "images").resolve())
    with (films / "metadata.csv").open(newline="") as file:
        rows = [row | {"split": "train"} for row in csv.DictReader(file) if row["case_id"] in cases]
    rows += [
        row | {"split": split, "case_id": f"{row['case_id']}-{split}", "patient_id": split}
        for row, split in zip(rows, ("validation", "test"), strict=False)
    ]
    for row in rows:
        case = Path(row["mask"]).stem
        Image.fromarray(label(np.load(films / "outlines" / f"{case}.npz"))).save(out / row["mask"])
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


def train(
    folder: Path, run: Path, arm: Arm, rate: float, *, steps: int, batch_size: int, seed: int = 0
) -> Path:
    """Train and export; returns the folder of the exported network."""
    exported = run / "export"
    if exported.exists():
        return exported
    about = weights.load(arm.shape).about
    fields = {
        "seed": seed,
        "data.root": folder.resolve(),
        "data.split_column": "split",
        "data.structures": "knee_overlaps",
        "data.attributes": "()",
        "data.bins": "{}",
        "data.size": f"({about['grid'][0]}, {about['grid'][1]})",
        "model.widths": tuple(about["network"]["widths"]),
        "model.norm": about["network"]["norm"],
        "init_from": arm.init_from,
        "optimizer.learning_rate": rate,
        "train.batch_size": batch_size,
        "train.steps": steps,
        "train.eval_every": steps,
        "report.bootstrap_draws": 1000,
    }
    command = [sys.executable, "launch.py", "--config=configs/finetune.py", f"--workdir={run.resolve()}"]
    command += [f"--config.{field}={value}" for field, value in fields.items()]
    subprocess.run(command, cwd=ROOT, check=True)
    subprocess.run([sys.executable, "-m", "kneefair_jax.export", run.resolve()], cwd=ROOT, check=True)
    return exported


def score(checkpoint: str | Path, folders: Sequence[Path], knees: Sequence[str]) -> pd.DataFrame:
    """Dice of each film of some knees, a row a film, a column a bone."""
    predictor = real_bones.load(checkpoint)
    scores = pd.concat([real_bones.score(predictor, folder) for folder in folders], keys=range(len(folders)))
    of_knee = scores.index.get_level_values("case_id").str.rsplit("-", n=1).str[0]
    return scores[of_knee.isin(knees)]


class Films(NamedTuple):
    """Folders of films: to train on, to choose the learning rate on, and to score; knees to train on and to score."""

    train: Path
    other: Path
    test: list[Path]
    training_knees: list[str]
    test_knees: list[str]


def yardstick(films: Films, workdir: Path, steps: int, batch_size: int) -> dict[str, Any]:
    """Scores of `CHECKPOINT` before and after training on films of the other knees."""
    cases = [path.stem for path in sorted((films.train / "images").iterdir())]
    chosen = [case for case in cases if case.rsplit("-", 1)[0] in films.training_knees]
    cohort(films.train, workdir / "yardstick_cohort", chosen)
    run = train(
        workdir / "yardstick_cohort",
        workdir / "yardstick",
        YARDSTICK,
        YARDSTICK.rates[0],
        steps=steps,
        batch_size=batch_size,
    )
    networks = {"yardstick": run, CHECKPOINT: CHECKPOINT}
    dice = {
        name: real_bones.summary(score(network, films.test, films.test_knees))
        for name, network in networks.items()
    }
    return {"films": len(chosen), "learning_rate": YARDSTICK.rates[0], "dice": dice}


def few(films: Films, workdir: Path, steps: int, batch_size: int, seeds: Sequence[int]) -> dict[str, Any]:
    """Scores of each arm of `FEW` by seed, which chooses the films and their order."""
    result: dict[str, Any] = {"films": 10, "learning_rate": {}, "dice": {name: [] for name in FEW}}
    for seed in seeds:
        rng = np.random.default_rng(seed)
        knees = np.resize(rng.permutation(films.training_knees), 10)
        chosen = [f"{knee}-{film}" for knee, film in zip(knees, rng.permutation(40), strict=False)]
        folder = workdir / f"few_cohort_{seed}"
        cohort(films.train, folder, chosen)
        for name, arm in FEW.items():
            stem = name.replace(" ", "_")
            # Chosen once, for the first seed.
            rates = arm.rates if name not in result["learning_rate"] else (result["learning_rate"][name],)
            runs = {
                rate: train(
                    folder,
                    workdir / f"few_{stem}_{seed}_{rate:g}",
                    arm,
                    rate,
                    steps=steps,
                    batch_size=batch_size,
                    seed=seed,
                )
                for rate in rates
            }
            if len(runs) > 1:
                means = {
                    rate: score(run, [films.other], films.training_knees).to_numpy().mean()
                    for rate, run in runs.items()
                }
                result["learning_rate"][name] = max(means, key=lambda rate: means[rate])
            run = runs[result["learning_rate"][name]]
            dice = score(run, films.test, films.test_knees).mean().to_dict()
            result["dice"][name].append(dice)
            print(seed, name, result["learning_rate"][name], dice, flush=True)
    return result


def main() -> None:
    """Train, score, and write JSON."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=("yardstick", "few"))
    parser.add_argument("bones", type=Path)
    parser.add_argument("script", type=Path)
    parser.add_argument("--workdir", type=Path, required=True)
    parser.add_argument("--steps", type=int, help="default: 300 for the yardstick, 100 for few films")
    parser.add_argument("--batch_size", type=int, default=4)
    parser.add_argument("--out", type=Path, help="default: results/real_bones_WHAT.json")
    options = parser.parse_args()
    knees = sorted(path.stem for path in options.bones.glob("*.npz"))

    def films_of(seed: int, count: int) -> Path:
        return real_bones.films(options.bones, options.script, options.workdir, seed, count)

    films = Films(
        films_of(SEED, 40),
        films_of(OTHER_SEED, 4),
        [films_of(seed, real_bones.FILMS) for seed in (0, 1)],
        knees[::2],
        knees[1::2],
    )
    steps = options.steps or {"yardstick": 300, "few": 100}[options.what]
    if options.what == "yardstick":
        result = yardstick(films, options.workdir, steps, options.batch_size)
        for name, scores in result["dice"].items():
            print(f"{name}\n{real_bones.table(scores)}", flush=True)
    else:
        result = few(films, options.workdir, steps, options.batch_size, (0, 1))
    about = {"hardware": hardware(), "environment": run_directory.environment()}
    settings = {"steps": steps, "batch_size": options.batch_size, "knees to train on": films.training_knees}
    target = options.out or Path(__file__).parent / "results" / f"real_bones_{options.what}.json"
    atomic.write_json(target, about | settings | result)


if __name__ == "__main__":
    main()
