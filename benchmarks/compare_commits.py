"""Check that two commits compute the same numbers: `python -m benchmarks.compare_commits BEFORE AFTER --jsrt DIR`.

Each commit is checked out into a worktree of its own, and every scenario below is run in it as a user would run it,
through the commands alone, so that modules may move between the two commits. Then the results are compared: arrays
of every checkpoint and `.npz` file, weights and masks by their bytes, `cases.parquet` and `metrics.jsonl` value by
value, JSON reports key by key, CSV files cell by cell, pages clause by clause. Left out are times, dates, commits and
commands; TensorBoard's files; the schema of reports; folds, external cohorts, the OAI's layouts and several processes.

A difference has one of three kinds, `rounding`, `text` and `values`; `benchmarks.result_differences` defines them.
Results are kept by commit below --work; a scenario that has finished is run again only where it changed.
"""

import argparse
import inspect
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from PIL import Image
from scipy import ndimage

from benchmarks.result_differences import differences

ROOT = Path(__file__).parents[1]
ENVIRONMENT = {"JAX_PLATFORMS": "cpu", "SOURCE_DATE_EPOCH": "0"}  # pages state the date
TIMEOUT_S = 3600.0


class Commit(NamedTuple):
    """A commit under comparison: the folder of its worktree, and that of its results."""

    worktree: Path
    results: Path


def launch(commit: Commit, workdir: Path, *flags: str, devices: int = 1, stop_after: int = 0) -> None:
    """Run `launch.py`; with `stop_after`, preempt it once a checkpoint of that step exists, then run it again.

    Args:
        commit: whose code to run.
        workdir: the run directory.
        *flags: of `launch.py`, beside `--workdir`.
        devices: forced CPU devices.
        stop_after: training step, 0 for an uninterrupted run.

    Raises:
        RuntimeError: the command failed, or finished before it could be preempted.
    """
    command = [sys.executable, "launch.py", f"--workdir={workdir}", *flags]
    environment = os.environ | ENVIRONMENT | {"JAX_NUM_CPU_DEVICES": str(devices)}
    log = workdir.with_suffix(".log")
    if stop_after:
        with log.open("w") as file:
            process = subprocess.Popen(
                command, cwd=commit.worktree, env=environment, stdout=file, stderr=subprocess.STDOUT
            )
            while not (workdir / "checkpoints" / str(stop_after)).is_dir() and process.poll() is None:
                time.sleep(0.05)
            process.send_signal(signal.SIGTERM)
            if process.wait(TIMEOUT_S) != 75:
                raise RuntimeError(
                    f"{workdir.name}: not preempted, exit status {process.returncode}; see {log}"
                )
    run(command, commit, log, environment)


def module(commit: Commit, name: str, out: Path, *arguments: str) -> None:
    """Run `python -m kneefair_jax.NAME ... --out OUT`."""
    command = [sys.executable, "-m", f"kneefair_jax.{name}", *arguments, "--out", str(out)]
    run(command, commit, out.with_suffix(".log"), os.environ | ENVIRONMENT)


def run(command: list[str], commit: Commit, log: Path, environment: dict[str, str]) -> None:
    """Run a command in a worktree.

    Raises:
        RuntimeError: its exit status is not 0.
    """
    with log.open("a") as file:
        status = subprocess.run(
            command, cwd=commit.worktree, env=environment, stdout=file, stderr=file, timeout=TIMEOUT_S
        ).returncode
    if status:
        raise RuntimeError(f"{' '.join(command)}: exit status {status}; see {log}")


PHANTOMS = (
    "--config=configs/quickstart.py",
    "--config.data.phantom.patients=60",
    "--config.data.size=(64,64)",
    "--config.train.steps=40",
    "--config.train.eval_every=10",
    "--config.report.bootstrap_draws=200",
)


def quickstart(commit: Commit, out: Path, jsrt: Path) -> None:
    """The quick start as `make demo` runs it."""
    launch(commit, out / "run", "--config=configs/quickstart.py")


def folder(commit: Commit, out: Path, jsrt: Path) -> None:
    """Two hundred steps on a folder of real radiographs."""
    flags = ("--config.data.structures=chest", "--config.train.steps=200", "--config.train.eval_every=100")
    launch(commit, out / "run", "--config=configs/folder.py", f"--config.data.root={jsrt}", *flags)


def preemption(commit: Commit, out: Path, jsrt: Path) -> None:
    """A run that is preempted after step 10 and resumed."""
    launch(commit, out / "run", *PHANTOMS, stop_after=10)


def check_export_predict(commit: Commit, out: Path, jsrt: Path) -> None:
    """A cohort checked, a run exported, and films segmented by it and by the weights that ship."""
    launch(commit, out / "run", "--mode=check", *PHANTOMS)
    launch(commit, out / "run", *PHANTOMS)
    module(commit, "export", out / "weights", str(out / "run"))
    films = [str(path) for path in sorted((jsrt / "images").glob("*.png"))[:3]]
    for name, checkpoint in {"own": str(out / "weights"), "shipped": "phantom"}.items():
        module(commit, "predict", out / name, "--checkpoint", checkpoint, "--images", *films)


def eight_devices(commit: Commit, out: Path, jsrt: Path) -> None:
    """Eight virtual devices, by jit."""
    launch(commit, out / "run", *PHANTOMS, devices=8)


def pmap(commit: Commit, out: Path, jsrt: Path) -> None:
    """Eight virtual devices, by pmap."""
    launch(commit, out / "run", *PHANTOMS, "--config.parallel=pmap", devices=8)


def mitigations(commit: Commit, out: Path, jsrt: Path) -> None:
    """Twenty steps of every method of `configs/mitigations.py`, and the page that compares them."""
    # In early commits, the settings of all parts are fields of `mitigation`.
    is_nested = "schedule.extra_steps" in (commit.worktree / "configs/default.py").read_text()
    extra_steps = "schedule.extra_steps" if is_nested else "extra_steps"
    flags = (
        "--config=configs/study.py:all",
        "--config.study.seeds=(0,)",
        f"--config.study.settings.jtt.{extra_steps}=20",
        f"--config.study.settings.last_layer.{extra_steps}=20",
        "--config.data.phantom.patients=200",
        "--config.train.steps=20",
        "--config.train.eval_every=10",
        "--config.report.bootstrap_draws=200",
        "--config.study.bootstrap_draws=200",
    )
    launch(commit, out / "study", "--mode=study", *flags)


def audit_masks(commit: Commit, out: Path, jsrt: Path) -> None:
    """An audit of two models' masks: the reference masks, eroded for men, and dilated for everybody."""
    cases = pd.read_csv(jsrt / "metadata.csv")
    for case in cases.itertuples():
        labels = np.asarray(Image.open(jsrt / str(case.mask), formats=("PNG",)))
        eroded = np.where(ndimage.binary_erosion(labels > 0), labels, 0) if case.sex == "male" else labels
        for name, mask in {"eroded": eroded, "dilated": ndimage.grey_dilation(labels, 3)}.items():
            (out / name).mkdir(exist_ok=True)
            Image.fromarray(mask.astype(np.uint8)).save(out / name / Path(str(case.mask)).name)
    predictions = [f"eroded={out / 'eroded'}", f"dilated={out / 'dilated'}"]
    flags = ("--attributes", "sex", "age", "--bins", "age=50,64", "--draws", "1000", "--delta", "dice=0.01")
    tables = (
        f"--truth={jsrt / 'masks'}",
        f"--images={jsrt / 'images'}",
        f"--metadata={jsrt / 'metadata.csv'}",
    )
    module(commit, "audit", out / "page", *tables, "--labels", "chest", "--pred", *predictions, *flags)


def audit_scores(commit: Commit, out: Path, jsrt: Path) -> None:
    """An audit of a table of scores with confounders, empty cells and small groups."""
    rng = np.random.default_rng(0)
    patients = np.repeat(np.arange(150), 2)
    sex, race = rng.choice(["female", "male"], 150), rng.choice(["A", "B", "C"], 150, p=(0.6, 0.36, 0.04))
    table = pd.DataFrame({"case_id": [f"c{k}" for k in range(300)], "patient_id": patients})
    table = table.assign(sex=sex[patients], race=race[patients], bmi=rng.normal(27, 4, 150)[patients])
    for name, mean in {"femur": 0.96, "tibia": 0.95, "patella": 0.9}.items():
        dice = mean - 0.02 * (table["sex"] == "male") - rng.gamma(2, 0.01, 300)
        table[f"dice_{name}"] = dice.where(rng.random(300) > 0.03).round(6)
    table.to_csv(out / "scores.csv", index=False)
    flags = ("--attributes", "sex", "race", "--draws", "1000", "--delta", "dice=0.02")
    module(commit, "audit", out / "page", f"--scores={out / 'scores.csv'}", *flags)


SCENARIOS: dict[str, Callable[[Commit, Path, Path], None]] = {
    scenario.__name__: scenario
    for scenario in (
        *(quickstart, folder, preemption, eight_devices, pmap, mitigations),
        *(check_export_predict, audit_masks, audit_scores),
    )
}


def checkout(revision: str, work: Path) -> Commit:
    """A worktree of a revision below `work`, made anew where it is not there yet."""
    name = git("rev-parse", "--short=12", f"{revision}^{{commit}}")
    commit = Commit(work / name / "code", work / name)
    if not commit.worktree.exists():
        git("worktree", "prune")
        git("worktree", "add", "--detach", str(commit.worktree), name)
    return commit


def git(*arguments: str) -> str:
    """What a git command prints, in this checkout."""
    return subprocess.run(
        ["git", *arguments], cwd=ROOT, check=True, capture_output=True, text=True
    ).stdout.strip()


def record(commit: Commit, name: str, jsrt: Path) -> Path:
    """Run a scenario in a commit's worktree unless its results are there; return their folder."""
    out = commit.results / name
    marker, setting = (
        out / "finished.json",
        json.dumps([str(jsrt), inspect.getsource(SCENARIOS[name]), PHANTOMS]),
    )
    if not marker.exists() or marker.read_text() != setting:
        shutil.rmtree(out, ignore_errors=True)
        out.mkdir(parents=True)
        SCENARIOS[name](commit, out, jsrt)
        marker.write_text(setting)
    return out


def main() -> None:
    """Print a line for each scenario; exit status 1 where the commits differ by more than the kinds of --allow."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("before", help="a commit")
    parser.add_argument("after", nargs="?", default="HEAD", help="another; by default HEAD")
    parser.add_argument(
        "--jsrt", type=Path, required=True, help="folder of the JSRT films: metadata.csv, images, masks"
    )
    parser.add_argument("--work", type=Path, default=ROOT / "runs" / "commits", help="where results are kept")
    parser.add_argument("--only", nargs="+", choices=SCENARIOS, default=list(SCENARIOS))
    parser.add_argument(
        "--allow", nargs="+", choices=("rounding", "text"), default=[], help="kinds to accept"
    )
    parser.add_argument("--lines", type=int, default=20, help="differences to list of each kind")
    options = parser.parse_args()
    work, jsrt = options.work.absolute(), options.jsrt.absolute()
    before, after = (checkout(revision, work) for revision in (options.before, options.after))
    if before == after:
        parser.error(f"{options.before} and {options.after} are the same commit")
    failed = False
    for name in options.only:
        count, different = differences(record(before, name, jsrt), record(after, name, jsrt))
        failed |= not count or any(names for key, names in different.items() if key not in options.allow)
        numbers = ", ".join(f"{key}: {len(names)} differ" for key, names in different.items())
        print(f"{name}: {count} values compared; {numbers}", flush=True)
        for key, names in different.items():
            for line in names[: options.lines]:
                print(f"    {key}: {line}", flush=True)
    sys.exit(failed)


if __name__ == "__main__":
    main()
