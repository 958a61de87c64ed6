"""What `launch.py --mode=` does."""

from collections.abc import Callable
from pathlib import Path

from ml_collections import ConfigDict

from kneefair_jax.data import cohort_loader, store
from kneefair_jax.data.cohort_loader import Prepared
from kneefair_jax.errors import InputError
from kneefair_jax.evaluation import evaluate
from kneefair_jax.preflight import check as preflight_check
from kneefair_jax.preflight import group_sizes, hardware
from kneefair_jax.runs import experiment, study
from kneefair_jax.runtime import atomic, distributed, output_folder, run_directory


def train(config: ConfigDict, workdir: Path) -> None:
    """Trains, then evaluates; with `data.folds`, each fold in turn (or the one that `data.fold` names)."""
    if "study" in config:
        experiment.say(
            "note: config.study is ignored; --mode=train is one run, of config.mitigation; try --mode=study"
        )
    _run(config, workdir, training=True)


def evaluate_only(config: ConfigDict, workdir: Path) -> None:
    """Evaluates the checkpoints of a run folder again: another selection rule, external cohort or report."""
    _run(config, workdir, training=False)


def check(config: ConfigDict, workdir: Path) -> None:
    """Reads the whole cohort, times this machine, and says what is in both; of folds, the first or the one named.

    Raises:
        InputError: training would be refused, for what it says; what could be read has been shown before.
    """
    if config.data.get("source") == "phantom" and config.data.phantom.get("online", False):
        raise InputError(
            "config.data.phantom.online=True: --mode=check reads every training case, and these are drawn in the "
            "training step; set data.phantom.online=False to check stored cases of the same population"
        )
    if config.data.folds and config.data.fold == -1:
        config = _of_fold(config, 0)
        experiment.say(f"splits are those of fold 0 of {config.data.folds}")
    store.check_options(experiment.store_options(config))

    def inspect(main: Prepared, outside: Prepared | None) -> None:
        folders = experiment.known_folders(config, workdir)
        small = group_sizes.small_groups(main.cohort, config.data, config.report.min_group_patients)
        preflight_check.run(
            main, outside, workdir / "check", config.check.against, experiment.say, folders, small
        )
        experiment.tell_left_out(workdir / "check", main, outside, folders)

    # All that is broken is to be shown, not the first five alone.
    made, main, outside = experiment.prepare_run(
        config,
        workdir,
        experiment.store_dir(config, workdir),
        training=True,
        on_read_error="skip",
        inspect=inspect,
    )
    found = hardware.measure(config, made, main.cases, workdir)
    atomic.write_json(workdir / "check" / "machine.json", found._asdict())
    for line in hardware.lines(found):
        experiment.say(line)
    broken = [*main.cases.excluded, *(outside.cases.excluded if outside else ())]
    if broken and config.data.on_read_error == "stop":
        raise InputError(
            store.unreadable_message(broken, len(main.cases) + len(outside.cases if outside else ()))
        )


MODES: dict[str, Callable[..., None]] = {
    "train": train,
    "evaluate": evaluate_only,
    "check": check,
    "study": study.run_study,
}


def _run(config: ConfigDict, workdir: Path, *, training: bool) -> None:
    if not config.data.folds:
        experiment.run_experiment(config, workdir, experiment.store_dir(config, workdir), training)
        return
    output_folder.require_regular_files(workdir, run_directory.OUTPUTS)
    folds = [_of_fold(config, fold) for fold in range(config.data.folds)]
    paths = [workdir / f"fold_{fold}" for fold in range(len(folds))]
    if not -1 <= config.data.fold < len(folds):
        raise InputError(
            f"config.data.fold={config.data.fold} of {len(folds)}: give 0 to {len(folds) - 1}, or -1 for all"
        )
    # Folds that were run elsewhere or earlier must be folds of this same run.
    for fold, path in zip(folds, paths, strict=True):
        run_directory.check_config(path, fold)
    for number, (fold, path) in enumerate(zip(folds, paths, strict=True)):
        if config.data.fold in (-1, number):
            print(f"fold {number} of {len(folds)}", flush=True)
            experiment.run_experiment(fold, path, experiment.store_dir(config, workdir), training)
    if not distributed.is_primary():
        return
    at = evaluate.resolution(paths[max(config.data.fold, 0)])
    waiting = [path.name for path in paths if evaluate.resolution(path) != at]
    if waiting:
        told = f"the report over all folds waits for {', '.join(waiting)}"
        print(f"{told}, with scores of report.resolution={at}", flush=True)
        return
    cohort = cohort_loader.load(folds[0].data, config.data.seed)
    ready, _ = cohort_loader.prepare(
        folds[0].data,
        config.data.seed,
        cohort,
        None,
        experiment.store_dir(config, workdir),
        experiment.store_options(config),
    )
    page = evaluate.merge_folds(folds[0], ready.cohort, ready.cases, workdir, paths)
    print(f"all folds: {page}", flush=True)


def _of_fold(config: ConfigDict, fold: int) -> ConfigDict:
    one = config.copy_and_resolve_references()
    one.data.fold = fold
    return one
