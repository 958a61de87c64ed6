"""What `launch.py --mode=` does."""

from collections.abc import Callable
from pathlib import Path

import jax
import numpy as np
from ml_collections import ConfigDict

from kneefair_jax import check as checks
from kneefair_jax import cohort as cohorts
from kneefair_jax import evaluate, groups, models, run_folder
from kneefair_jax.data import left_out, load, memory, prepared, store
from kneefair_jax.data.prepared import Prepared
from kneefair_jax.errors import InputError
from kneefair_jax.training import composition, experiment, members, schedules


def train(config: ConfigDict, workdir: Path) -> None:
    """Trains, then evaluates; with `data.folds`, each fold in turn (or the one that `data.fold` names)."""
    _run(config, workdir, training=True)


def evaluate_only(config: ConfigDict, workdir: Path) -> None:
    """Evaluates the checkpoints of a run folder again: another selection rule, external cohort or report."""
    _run(config, workdir, training=False)


def check(config: ConfigDict, workdir: Path) -> None:
    """Reads the whole cohort and says what is in it, before anyone trains; of folds, the first or the one named.

    Raises:
        InputError: training would be refused, for what it says; what could be read has been shown before.
    """
    if config.data.folds and config.data.fold == -1:
        config = _of_fold(config, 0)
        _say(f"splits are those of fold 0 of {config.data.folds}")
    store.check_options(_options(config))
    # All that is broken is to be shown, not the first five alone.
    _, main, outside = _ready(config, workdir, _store(config, workdir), training=True, on_broken="skip")
    checks.run(main, outside, workdir / "check", _say)
    _tell_left_out(workdir / "check", main, outside)
    broken = [*main.cases.left_out, *(outside.cases.left_out if outside else ())]
    if broken and config.data.on_broken == "stop":
        raise InputError(store.refusal(broken, len(main.cases) + len(outside.cases if outside else ())))


MODES: dict[str, Callable[[ConfigDict, Path], None]] = {
    "train": train,
    "evaluate": evaluate_only,
    "check": check,
}


def _run(config: ConfigDict, workdir: Path, *, training: bool) -> None:
    if not config.data.folds:
        _one(config, workdir, _store(config, workdir), training)
        return
    folds = [_of_fold(config, fold) for fold in range(config.data.folds)]
    paths = [workdir / f"fold_{fold}" for fold in range(len(folds))]
    if not -1 <= config.data.fold < len(folds):
        raise InputError(
            f"config.data.fold={config.data.fold} of {len(folds)}: give 0 to {len(folds) - 1}, or -1 for all"
        )
    # Folds that were run elsewhere or earlier must be folds of this same run.
    for fold, path in zip(folds, paths, strict=True):
        run_folder.check_config(path, fold)
    for number, (fold, path) in enumerate(zip(folds, paths, strict=True)):
        if config.data.fold in (-1, number):
            print(f"fold {number} of {len(folds)}", flush=True)
            _one(fold, path, _store(config, workdir), training)
    waiting = [path.name for path in paths if not (path / "report" / "report.json").exists()]
    if waiting:
        print(f"the report over all folds waits for {', '.join(waiting)}", flush=True)
        return
    cohort = load.load(folds[0].data, config.data.seed)
    ready, _ = prepared.prepare(
        folds[0].data, config.data.seed, cohort, None, _store(config, workdir), _options(config)
    )
    page = evaluate.union(folds[0], ready.cohort, ready.cases, workdir, paths)
    print(f"all folds: {page}", flush=True)


def _of_fold(config: ConfigDict, fold: int) -> ConfigDict:
    one = config.copy_and_resolve_references()
    one.data.fold = fold
    return one


def _store(config: ConfigDict, workdir: Path) -> Path:
    return Path(config.data.store) if config.data.store else workdir / "store"


def _options(config: ConfigDict) -> store.Options:
    data = config.data
    return store.Options(workers=data.workers, on_broken=data.on_broken, beam=data.beam, say=_say)


def _say(line: str) -> None:
    if jax.process_index() == 0:
        print(line, flush=True)


def _ready(
    config: ConfigDict, workdir: Path, directory: Path, *, training: bool, on_broken: str
) -> tuple[experiment.Experiment, Prepared, Prepared | None]:
    """All that precedes the first step. What a user can get wrong is checked before the first byte is written."""
    run_folder.check_config(workdir, config)
    cohort = load.load(config.data, config.data.seed)
    external = load.load_external(config.data, cohort)
    made = experiment.build(config, cohort)
    table = run_folder.table_fingerprint(cohort.cases, made.partition.index)
    # Before hours of reading, where the reading cannot change the table.
    if on_broken == "stop" and not store.is_prepared(cohort.source, cohort.grid, directory):
        run_folder.check_data(workdir, table=table)
    schedules.check(config, cohort)
    if external:
        theirs = made.partition._replace(index=groups.indexed(external.cases, made.partition))
        composition.check_known(config.mitigation, theirs, np.arange(len(theirs.index)), "external")
    if not training:
        for member in members.of_run(config, made.partition):
            if not (workdir / member.directory / "checkpoints").is_dir():
                raise InputError(f"{workdir} holds no checkpoint; train first with --mode=train")
    options = _options(config)._replace(on_broken=on_broken)
    main, outside = prepared.prepare(config.data, config.data.seed, cohort, external, directory, options)
    if main.cohort is not cohort:
        made = experiment.build(config, main.cohort)
        schedules.check(config, main.cohort)
        table = run_folder.table_fingerprint(main.cohort.cases, made.partition.index)
    run_folder.check_data(workdir, table=table, pixels=main.cases.digest)
    for name in main.cohort.attributes if outside else ():
        if outside and (outside.cohort.cases[name] == groups.MISSING).all():
            _say(f"note: {name} is known of no external case")
    return made, main, outside


def _one(config: ConfigDict, workdir: Path, directory: Path, training: bool) -> None:
    on_broken = config.data.on_broken
    made, main, outside = _ready(config, workdir, directory, training=training, on_broken=on_broken)
    cohort, cases = main.cohort, main.cases
    if training:
        parameters = models.count(made.state.params)
        print(f"{jax.device_count()} x {jax.devices()[0].device_kind}, {parameters:,} parameters")
        counts = cohorts.table(cohort.cases, cohort.attributes)
        print(cohorts.text(counts), flush=True)
        for note in cohorts.varying(cohort.cases, cohort.attributes):
            print(f"note: {note}", flush=True)
        table = run_folder.table_fingerprint(cohort.cases, made.partition.index)
        run_folder.open_run(workdir, config, table=table, pixels=cases.digest)
        counts.reset_index().to_csv(workdir / "cohort.csv", index=False)
    _tell_left_out(workdir, main, outside)
    if training:
        schedules.train(config, cohort, memory.Kept(cases), workdir)
    page = evaluate.evaluate(
        config, made, cohort, cases, workdir, (outside.cohort, outside.cases) if outside else None
    )
    print(f"report: {page}", flush=True)


def _tell_left_out(workdir: Path, main: Prepared, outside: Prepared | None) -> None:
    for part, name in ((main, "left_out.csv"), (outside, "left_out_external.csv")):
        listed = part.left_out if part else ()
        left_out.write(listed, workdir / name)
        if listed:
            _say(left_out.text(listed, workdir / name))
