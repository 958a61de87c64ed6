"""What `launch.py --mode=` does."""

from collections.abc import Callable
from pathlib import Path

import jax
from ml_collections import ConfigDict

from kneefair_jax import cohort as cohorts
from kneefair_jax import evaluate, models, run_folder
from kneefair_jax.data import load, store
from kneefair_jax.errors import InputError
from kneefair_jax.training import experiment, loop


def train(config: ConfigDict, workdir: Path) -> None:
    """Trains, then evaluates; with `data.folds`, each fold in turn (or the one that `data.fold` names)."""
    _run(config, workdir, training=True)


def evaluate_only(config: ConfigDict, workdir: Path) -> None:
    """Evaluates the checkpoints of a run folder again: another selection rule, external cohort or report."""
    _run(config, workdir, training=False)


MODES: dict[str, Callable[[ConfigDict, Path], None]] = {"train": train, "evaluate": evaluate_only}


def _run(config: ConfigDict, workdir: Path, *, training: bool) -> None:
    folds = config.data.folds
    if not folds:
        _one(config, workdir, workdir, training)
        return
    if not -1 <= config.data.fold < folds:
        raise InputError(
            f"config.data.fold={config.data.fold} of {folds}: give 0 to {folds - 1}, or -1 for all"
        )
    wanted = range(folds) if config.data.fold < 0 else [config.data.fold]
    paths = [workdir / f"fold_{fold}" for fold in range(folds)]
    for fold in wanted:
        one = config.copy_and_resolve_references()
        one.data.fold = fold
        print(f"fold {fold} of {folds}", flush=True)
        _one(one, paths[fold], workdir, training)
    waiting = [path.name for path in paths if not (path / "report" / "report.json").exists()]
    if waiting:
        print(f"the report over all folds waits for {', '.join(waiting)}", flush=True)
        return
    one = config.copy_and_resolve_references()
    one.data.fold = 0
    cohort = load.load(one.data, one.seed)
    cases = store.prepare(cohort.source, cohort.grid, workdir / "store")
    page = evaluate.union(config, cohort, cases, workdir, paths)
    print(f"all folds: {page}", flush=True)


def _one(config: ConfigDict, workdir: Path, parent: Path, training: bool) -> None:
    """One run. Everything that a user can get wrong is checked before the first byte is written."""
    run_folder.check_config(workdir, config)
    cohort = load.load(config.data, config.seed)
    external = load.load_external(config.data, cohort)
    made = experiment.build(config, cohort)
    directory = Path(config.data.store) if config.data.store else parent / "store"
    cases = store.prepare(cohort.source, cohort.grid, directory)
    external_cases = (
        (external, store.prepare(external.source, external.grid, directory)) if external else None
    )
    if training:
        parameters = models.count(made.state.params)
        print(f"{jax.device_count()} x {jax.devices()[0].device_kind}, {parameters:,} parameters")
        counts = cohorts.table(cohort.cases, cohort.attributes)
        print(cohorts.text(counts), flush=True)
        run_folder.open_run(workdir, config, {"fingerprint": cases.digest})
        counts.reset_index().to_csv(workdir / "cohort.csv", index=False)
        loop.train(config, made, cohort, cases, workdir)
    page = evaluate.evaluate(config, made, cohort, cases, workdir, external_cases)
    print(f"report: {page}", flush=True)
