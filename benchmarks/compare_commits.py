"""Check that two commits compute the same numbers: `python -m benchmarks.compare_commits BEFORE AFTER --jsrt DIR`.

Each commit is checked out into a worktree of its own, and every scenario below is run in it as a user would run it:
through `launch.py` and `python -m kneefair_jax.audit` alone, so that modules may move between the two commits. Then
the results are compared bit for bit: every array of every checkpoint, every value of `cases.parquet` and
`predictions.npz`, and every JSON report key by key, except for keys that hold times, commits or commands.

Results are kept by commit below --work; a scenario that has finished is not run again.
"""

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from PIL import Image
from scipy import ndimage

from benchmarks.faults import arrays

ROOT = Path(__file__).parents[1]
# Keys of reports and of `environment.json` that differ between two runs of one commit.
VOLATILE = {"commit", "command", "started", "seconds", "minutes", "duration", "compile_seconds", "memory"}
TIMEOUT_S = 1800.0


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
    environment = os.environ | {"JAX_NUM_CPU_DEVICES": str(devices), "JAX_PLATFORMS": "cpu"}
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


def audit(commit: Commit, out: Path, *flags: str) -> None:
    """Run `python -m kneefair_jax.audit`."""
    command = [sys.executable, "-m", "kneefair_jax.audit", f"--out={out}", *flags]
    run(command, commit, out.with_suffix(".log"), os.environ | {"JAX_PLATFORMS": "cpu"})


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


def resumed(commit: Commit, out: Path, jsrt: Path) -> None:
    """A run that is preempted after step 10 and resumed."""
    launch(commit, out / "run", *PHANTOMS, stop_after=10)


def eight_devices(commit: Commit, out: Path, jsrt: Path) -> None:
    """Eight virtual devices, by jit."""
    launch(commit, out / "run", *PHANTOMS, devices=8)


def pmap(commit: Commit, out: Path, jsrt: Path) -> None:
    """Eight virtual devices, by pmap."""
    launch(commit, out / "run", *PHANTOMS, "--config.parallel=pmap", devices=8)


def mitigations(commit: Commit, out: Path, jsrt: Path) -> None:
    """Twenty steps of every method of `configs/mitigations.py`, and the page that compares them."""
    flags = (
        "--config=configs/study.py:all",
        "--config.study.seeds=(0,)",
        "--config.study.settings.jtt.extra_steps=20",
        "--config.study.settings.last_layer.extra_steps=20",
        "--config.data.phantom.patients=200",
        "--config.train.steps=20",
        "--config.train.eval_every=10",
        "--config.report.bootstrap_draws=200",
        "--config.study.bootstrap_draws=200",
    )
    launch(commit, out / "study", "--mode=study", *flags)


def audit_masks(commit: Commit, out: Path, jsrt: Path) -> None:
    """An audit of two models' masks: the reference masks, shrunk for men, and grown for everybody."""
    cases = pd.read_csv(jsrt / "metadata.csv")
    for case in cases.itertuples():
        labels = np.asarray(Image.open(jsrt / str(case.mask), formats=("PNG", "GIF", "TIFF")))
        shrunk = np.where(ndimage.binary_erosion(labels > 0), labels, 0) if case.sex == "male" else labels
        for name, mask in {"shrunk": shrunk, "grown": ndimage.grey_dilation(labels, 3)}.items():
            (out / name).mkdir(exist_ok=True)
            Image.fromarray(mask.astype(np.uint8)).save(out / name / Path(str(case.mask)).name)
    predictions = [f"shrunk={out / 'shrunk'}", f"grown={out / 'grown'}"]
    flags = ("--attributes", "sex", "age", "--bins", "age=50,64", "--draws", "1000", "--delta", "dice=0.01")
    tables = (
        f"--truth={jsrt / 'masks'}",
        f"--images={jsrt / 'images'}",
        f"--metadata={jsrt / 'metadata.csv'}",
    )
    audit(commit, out / "page", *tables, "--labels", "chest", "--pred", *predictions, *flags)


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
    audit(commit, out / "page", f"--scores={out / 'scores.csv'}", *flags)


SCENARIOS: dict[str, Callable[[Commit, Path, Path], None]] = {
    scenario.__name__: scenario
    for scenario in (
        *(quickstart, folder, resumed, eight_devices, pmap, mitigations),
        *(audit_masks, audit_scores),
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
    done = out / "done"
    if not done.exists():
        shutil.rmtree(out, ignore_errors=True)
        out.mkdir(parents=True)
        SCENARIOS[name](commit, out, jsrt)
        done.touch()
    return out


def contents(out: Path) -> Iterator[tuple[str, Any]]:
    """Name and value of everything that is compared: arrays, columns, and leaves of JSON files."""
    for path in sorted(out.rglob("*")):
        name = str(path.relative_to(out))
        if path.name == "state" and path.parent.parent.name == "checkpoints":
            leaves = np_leaves(arrays(path))
            yield from ((f"{name}/{key}", value) for key, value in leaves)
        elif path.name == "cases.parquet":
            yield from ((f"{name}/{column}", values) for column, values in pd.read_parquet(path).items())
        elif path.name == "predictions.npz":
            with np.load(path) as file:
                yield from ((f"{name}/{key}", file[key]) for key in file.files)
        elif (path.suffix == ".json" and path.parent.name == "report") or path.name == "report.json":
            yield from ((f"{name}/{key}", value) for key, value in json_leaves(json.loads(path.read_text())))


def np_leaves(tree: Any, prefix: str = "") -> Iterator[tuple[str, np.ndarray]]:
    """The arrays of a tree of dicts and lists, with their paths."""
    items = (
        tree.items()
        if isinstance(tree, dict)
        else enumerate(tree)
        if isinstance(tree, list | tuple)
        else None
    )
    if items is None:
        yield prefix, np.asarray(tree)
    else:
        for key, value in items:
            yield from np_leaves(value, f"{prefix}/{key}")


def json_leaves(tree: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """The leaves of a JSON value with their paths, keys of `VOLATILE` left out."""
    items = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else None
    if items is None:
        yield prefix, tree
    else:
        yield prefix, type(tree).__name__  # so that an empty list is something, too
        for key, value in items:
            if key not in VOLATILE:
                yield from json_leaves(value, f"{prefix}/{key}")


def equal(a: Any, b: Any) -> bool:
    """Whether two values are the same, bit for bit; NaN equals NaN."""
    if isinstance(a, pd.Series) and isinstance(b, pd.Series):
        if pd.api.types.is_float_dtype(a) and pd.api.types.is_float_dtype(b):
            return equal(a.to_numpy(), b.to_numpy())
        return a.dtype == b.dtype and a.equals(b)
    if isinstance(a, np.ndarray) and isinstance(b, np.ndarray):
        return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()
    return type(a) is type(b) and (a == b or (a != a and b != b))


def differences(before: Path, after: Path) -> tuple[int, list[str]]:
    """How many values two result folders share, and the names of those that differ or that only one has."""
    one, other = dict(contents(before)), dict(contents(after))
    names = one.keys() & other.keys()
    different = [name for name in names if not equal(one[name], other[name])]
    return len(names), sorted([*different, *(one.keys() ^ other.keys())])


def main() -> None:
    """Print a line for each scenario; exit status 1 where the commits differ."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("before", help="a commit")
    parser.add_argument("after", nargs="?", default="HEAD", help="another; by default HEAD")
    parser.add_argument(
        "--jsrt", type=Path, required=True, help="folder of the JSRT films and their metadata.csv"
    )
    parser.add_argument("--work", type=Path, default=ROOT / "runs" / "commits", help="where results are kept")
    parser.add_argument("--only", nargs="+", choices=SCENARIOS, default=list(SCENARIOS))
    options = parser.parse_args()
    work, jsrt = options.work.absolute(), options.jsrt.absolute()
    commits = [checkout(revision, work) for revision in dict.fromkeys((options.before, options.after))]
    failed = False
    for name in options.only:
        results = [record(commit, name, jsrt) for commit in commits]
        compared, different = differences(results[0], results[-1])
        failed |= bool(different) or not compared
        print(f"{name}: {compared} values compared, {len(different)} differ", flush=True)
        for line in different[:20]:
            print(f"    {line}", flush=True)
    sys.exit(failed)


if __name__ == "__main__":
    main()
