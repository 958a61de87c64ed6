"""Measure how the cost of training, evaluation and statistics grows with the work, and how long a run needs to start.

    python -m benchmarks.growth                  (all sections, about 20 minutes on 2 cores)
    python -m benchmarks.growth --only groups    (one section; the file keeps the others)

Times of a training step are medians over rounds in which all variants take turns. The network is that of the quick
start (`configs/quickstart.py`), in float32 without augmentation. Each evaluation and each start runs in a process of
its own, whose peak memory is the resident one.
"""

import argparse
import contextlib
import itertools
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax

from benchmarks import jax_step, scaling
from benchmarks.jax_step import Run, Setting, in_turns
from benchmarks.machine import conditions, user_environment
from configs import quickstart, smoke
from kneefair_jax import mitigation
from kneefair_jax.data import pipeline
from kneefair_jax.fairness.summaries import group_sums
from kneefair_jax.mitigation import GroupObjective
from kneefair_jax.report import build
from kneefair_jax.runs import experiment
from kneefair_jax.runtime import atomic
from kneefair_jax.training import sharding, stages, steps

SIDES = (64, 128, 256, 512)
BATCHES = (1, 2, 4, 8, 16, 32)
GROUPS = (1, 2, 4, 16, 64)
OBJECTIVES: dict[str, Callable[[], GroupObjective]] = {
    "group_dro": mitigation.group_dro,
    "gap_penalty": mitigation.gap_penalty,
}
DRAWS = (1_000, 10_000, 100_000)
PATIENTS = 2_000  # of the report whose statistics are timed
EVALUATED_CASES = (1_000, 10_000, 100_000)
EVALUATED_SIDE = 32  # pixels
EVALUATED_BATCH = 32
# The warm start reads compiled programs from JAX's cache; the last one also finds prepared cases.
STARTS = ("cold", "warm cache", "warm cache, prepared cases")


def network() -> dict[str, Any]:
    """Return the config's `model` section of the quick start."""
    return quickstart.get_config().model.to_dict()


def step_timer(setting: Setting, objective: GroupObjective | None = None, groups: int = 2) -> Run:
    """Compile the training step of a setting and return its timer (`jax_step.timer`)."""
    objective = objective or mitigation.erm()
    start = jax_step.first_state(setting, network(), objective, groups)
    definition = jax_step.define_step(setting, network(), jax_step.Augmentation())
    definition = definition._replace(objective=objective, groups=groups)
    batch = jax_step.batch_of(setting)
    batch["group"] = batch["position"] % groups
    current, batch = jax.device_put((start, batch), jax.devices()[0], may_alias=False)
    step = sharding.PARALLEL["jit"].compile(steps.make_train_step(definition))
    compiled = step.lower(current, batch, None).compile()
    return jax_step.timer(lambda state, batch: compiled(state, batch, None), current, batch)


def step_rows(settings: Sequence[Setting], rounds: int, seconds: float) -> list[dict[str, Any]]:
    """Return a row for each setting, with the growth per doubling of its pixels since the row before."""
    times = in_turns({setting: step_timer(setting) for setting in settings}, rounds, seconds)
    rows = [
        {"side": s.side, "batch_size": s.batch_size, "milliseconds": statistics.median(times[s])}
        for s in settings
    ]
    for smaller, larger in itertools.pairwise(rows):
        pixels = tuple(row["batch_size"] * row["side"] ** 2 for row in (smaller, larger))
        costs = smaller["milliseconds"], larger["milliseconds"]
        larger["growth_per_doubling"] = scaling.growth(pixels, costs)
    return rows


def measure_steps(rounds: int, seconds: float = 1.0) -> dict[str, Any]:
    """Time a training step against the image's side and against the batch size."""
    sides = [Setting("quickstart", side, "float32", 2) for side in SIDES]
    batches = [Setting("quickstart", SIDES[0], "float32", size) for size in BATCHES]
    return {
        "side": step_rows(sides, rounds, seconds),
        "batch_size": step_rows(batches, rounds, seconds),
    }


def measure_groups(rounds: int, seconds: float = 0.5, side: int = 128) -> dict[str, Any]:
    """Time a training step against the number of groups, beside the step of `erm` with one group."""
    setting = Setting("quickstart", side, "float32", 8)
    timers: dict[Any, Run] = {("erm", 1): step_timer(setting, mitigation.erm(), 1)}
    for (name, create), groups in itertools.product(OBJECTIVES.items(), GROUPS):
        timers[name, groups] = step_timer(setting, create(), groups)
    times = in_turns(timers, rounds, seconds)
    baseline = times.pop(("erm", 1))
    rows = []
    for (name, groups), values in times.items():
        ratios = [value / base for value, base in zip(values, baseline, strict=True)]
        alone = objective_microseconds(OBJECTIVES[name](), groups, setting.batch_size)
        rows.append(
            {
                "objective": name,
                "groups": groups,
                "milliseconds": statistics.median(values),
                "share": statistics.median(ratios) - 1,
                "spread": [min(ratios) - 1, max(ratios) - 1],
                "alone_microseconds": alone,
                "alone_share": alone / 1e3 / statistics.median(baseline),
            }
        )
    return setting._asdict() | {"erm_milliseconds": statistics.median(baseline), "rows": rows}


def objective_microseconds(objective: GroupObjective, groups: int, batch_size: int) -> float:
    """Return the time of an objective and of the sums of losses by group as a program of their own."""
    losses, mask = jax.numpy.linspace(0.1, 1.0, batch_size), jax.numpy.ones(batch_size)
    group = jax.numpy.arange(batch_size) % groups

    @jax.jit
    def program(state: Any) -> Any:
        weights, state = objective.update(losses, group, mask, state, None)
        value = objective.value(weights, losses, group, mask, state, None)
        return value, group_sums(losses, jax.nn.one_hot(group, groups), mask), state

    state = objective.init(jax.numpy.ones(groups, jax.numpy.int32))
    jax.block_until_ready(program(state))
    calls, times = 200, []
    for _ in range(5):
        start = time.perf_counter()
        for _ in range(calls):
            *_, state = program(state)
        jax.block_until_ready(state)
        times.append(1e6 * (time.perf_counter() - start) / calls)
    return statistics.median(times)


def measure_bootstrap(rounds: int, patients: int = PATIENTS, draws: Sequence[int] = DRAWS) -> dict[str, Any]:
    """Time all statistics of a report against the number of bootstrap draws."""
    table = scaling.scores(patients).assign(patient_id=lambda table: table["case_id"])
    table = table.astype({"sex": "category", "race": "category"}).assign(true_area_mm2=900.0)
    cases = table.drop_duplicates("case_id")[["case_id", "patient_id", "sex", "race"]].assign(split="test")

    def seconds(count: int) -> float:
        analysis = build.Analysis(scaling.STRUCTURES, ("sex", "race"), draws=count)
        start = time.perf_counter()
        build.build_report(table, cases.reset_index(drop=True), analysis, run={})
        return time.perf_counter() - start

    seconds(draws[0])  # imports, and the first touch of memory
    times = [{"draws": count, "seconds": [seconds(count) for _ in range(rounds)]} for count in draws]
    rows = [row | {"seconds": statistics.median(row["seconds"])} for row in times]
    for smaller, larger in itertools.pairwise(rows):
        sizes, costs = ((smaller[key], larger[key]) for key in ("draws", "seconds"))
        larger["growth_per_doubling"] = scaling.growth(sizes, costs)
    return {"patients": patients, "rows": rows}


def trained_run(folder: Path, cases: int) -> list[str]:
    """Prepare a cohort of phantoms, train one step, and return the command line of the run's evaluation.

    Args:
        folder: where the run's folder is created.
        cases: of the test split; a twentieth as many are trained on, and as many validated.
    """
    config = smoke.get_config()
    config.data.size = (EVALUATED_SIDE, EVALUATED_SIDE)
    config.data.phantom.patients = round(cases * 1.1)
    config.data.fractions = (0.05 / 1.1, 0.05 / 1.1, 1 / 1.1)
    config.train.update({"steps": 1, "batch_size": EVALUATED_BATCH})
    workdir = folder / "run"
    run, main, _ = experiment.prepare_run(
        config, workdir, workdir / "store", training=True, on_read_error="stop"
    )
    workdir.mkdir(exist_ok=True)
    experiment.open_run(config, workdir, main)
    stages.train(config, main.cohort, pipeline.CachedCases(main.cases), workdir, run)
    return ["-m", "kneefair_jax.cli", "evaluate", str(workdir)]


def measure_evaluation(sizes: Sequence[int] = EVALUATED_CASES) -> dict[str, Any]:
    """Evaluate runs on cohorts of several sizes, each in a process of its own."""
    task = scaling.Task("evaluate", tuple(sizes), trained_run)
    rows = [scaling.measure(task, size) for size in sizes]
    add_increments(rows)
    return {"side": EVALUATED_SIDE, "batch_size": EVALUATED_BATCH, "rows": rows}


def add_increments(rows: Sequence[dict[str, Any]]) -> None:
    """Add the time and the memory of an added case, since the row before, to each row but the first."""
    for smaller, larger in itertools.pairwise(rows):
        added = larger["size"] - smaller["size"]
        seconds = larger["processor_seconds"] - smaller["processor_seconds"]
        larger["milliseconds_per_added_case"] = 1e3 * seconds / added
        larger["kibibytes_per_added_case"] = (larger["gibibytes"] - smaller["gibibytes"]) * 2**20 / added


def measure_starts(rounds: int) -> dict[str, Any]:
    """Time the package's import, the help, and `kneefair train --config=smoke` up to its first step and to its end."""

    def seconds(*arguments: str) -> float:
        start = time.monotonic()
        subprocess.run(
            [sys.executable, *arguments],
            cwd=scaling.ROOT,
            env=user_environment(),
            check=True,
            stdout=subprocess.DEVNULL,
        )
        return time.monotonic() - start

    commands = {
        "import kneefair_jax": ("-c", "import kneefair_jax"),
        "kneefair --help": ("-m", "kneefair_jax.cli", "--help"),
    }
    times = {name: [seconds(*command) for _ in range(5)] for name, command in commands.items()}
    first: dict[str, list[float]] = {name: [] for name in STARTS}
    total: dict[str, list[float]] = {name: [] for name in STARTS}
    for number in range(rounds):
        with tempfile.TemporaryDirectory() as name, cache_of_programs(Path(name, "cache")):
            for start in STARTS:
                store = Path(name, "store" if start != "warm cache" else "another store")
                result = start_run(Path(name, start), store)
                first[start].append(result["first_step"])
                total[start].append(result["total"])
                if number == 0 and start == "cold":
                    programs = Counter(map(tuple, result["programs"]))
    return {
        "seconds": {name: statistics.median(values) for name, values in times.items()},
        "first_step_seconds": {name: statistics.median(values) for name, values in first.items()},
        "run_seconds": {name: statistics.median(values) for name, values in total.items()},
        "programs": Counter(name for name, _ in programs.elements()),
        "compiled_again": [name for (name, _), count in programs.items() if count > 1],
    }


@contextlib.contextmanager
def cache_of_programs(folder: Path) -> Any:
    """Set the compilation cache of the processes that start within the block."""
    os.environ["JAX_COMPILATION_CACHE_DIR"] = str(folder)
    try:
        yield
    finally:
        del os.environ["JAX_COMPILATION_CACHE_DIR"]


def start_run(workdir: Path, store: Path, *flags: str) -> dict[str, Any]:
    """Run the smoke config in a process of its own.

    Returns:
        `first_step` and `total`, seconds from the start of the process; `programs`, `(name, shapes)` of each one that
        JAX compiled or read from its cache.
    """
    target = workdir.with_suffix(".json")
    command = [sys.executable, "-m", "benchmarks.start_up", str(target), "train", "--config=smoke"]
    start = time.monotonic()
    subprocess.run(
        [*command, f"--workdir={workdir}", f"--config.data.store={store}", *flags],
        cwd=scaling.ROOT,
        env=user_environment(),
        check=True,
        capture_output=True,
    )
    result = json.loads(target.read_text())
    return result | {"first_step": result["first_step"] - start, "total": time.monotonic() - start}


SECTIONS: dict[str, Callable[[int], dict[str, Any]]] = {
    "steps": measure_steps,
    "groups": lambda rounds: measure_groups(3 * rounds),
    "bootstrap": lambda rounds: measure_bootstrap(min(rounds, 3)),
    "evaluation": lambda _: measure_evaluation(),
    "start_up": lambda rounds: measure_starts(min(rounds, 3)),
}


def main() -> None:
    """Measure the sections and write each into the file as soon as it is known."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "growth.json")
    parser.add_argument("--only", choices=SECTIONS)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    for name in [options.only] if options.only else SECTIONS:
        about = {
            **conditions(),
            "load_average": os.getloadavg(),
            "commit": scaling.commit(),
        }
        section = about | SECTIONS[name](options.rounds)
        print(json.dumps({name: section}, indent=1), flush=True)
        earlier = json.loads(options.out.read_text()) if options.out.exists() else {}
        options.out.parent.mkdir(parents=True, exist_ok=True)
        atomic.write_json(options.out, earlier | {name: section})


if __name__ == "__main__":
    main()
