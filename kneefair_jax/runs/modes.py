"""The modes of `launch.py`: train, evaluate, check, study."""

import logging
from collections.abc import Callable
from pathlib import Path

from ml_collections import ConfigDict

from kneefair_jax.data import cohort_loader, store
from kneefair_jax.data.cohort_loader import Prepared
from kneefair_jax.errors import InputError
from kneefair_jax.preflight import check as preflight_check
from kneefair_jax.preflight import group_sizes, hardware
from kneefair_jax.runs import experiment
from kneefair_jax.runtime import distributed, output_folder, run_directory, written_files

logger = logging.getLogger(__name__)
_CHECK_FILES = (
    *("check.json", "faults.csv", "contact_sheet.png", "label_errors.png", "label_errors_external.png"),
    *("excluded.csv", "excluded_external.csv", "hardware.json"),
)


def train(config: ConfigDict, workdir: Path) -> bool:
    """Train, then evaluate; with `data.folds`, each fold in turn (or the one that `data.fold` names).

    Returns:
        Whether this wrote the report of the run; that of folds waits for all of them.
    """
    if "study" in config:
        logger.warning(
            "note: config.study is ignored; --mode=train is one run, of config.mitigation; try --mode=study"
        )
    return _run(config, workdir, training=True)


def evaluate_only(config: ConfigDict, workdir: Path) -> bool:
    """Evaluate the checkpoints of a run folder again: another selection rule, external cohort or report.

    Returns:
        As `train`.
    """
    return _run(config, workdir, training=False)


def check(config: ConfigDict, workdir: Path, overwrite: bool = False) -> None:
    """Read the whole cohort, time this machine, and report both; of folds, the first or the one that `data.fold` names.

    Args:
        config: of a run.
        workdir: its folder; the result is in `check`.
        overwrite: whether to replace the result of an earlier check.

    Raises:
        InputError: the folder holds an earlier check, or training would be refused, for the same reason; the readable
            cases have been reported before.
    """
    if config.data.get("source") == "phantom" and config.data.phantom.get("online", False):
        raise InputError(
            "config.data.phantom.online=True: --mode=check reads every training case, and these are drawn in the "
            "training step; set data.phantom.online=False to check stored cases of the same population"
        )
    if "study" in config:
        from kneefair_jax.runs import study_trials

        study_trials.check(config)
    if config.data.folds and config.data.fold == -1:
        config = _of_fold(config, 0)
        logger.info("splits are those of fold 0 of %d", config.data.folds)
    store.check_options(experiment.store_options(config))
    folder = workdir / "check"
    written_files.require_new(folder, "check", "--workdir", _CHECK_FILES, overwrite=overwrite)

    def inspect(main: Prepared, external: Prepared | None) -> None:
        folders = experiment.private_folders(config, workdir)
        small = group_sizes.small_groups(main.cohort, config.data, config.report.min_group_patients)
        with written_files.replacement(folder, "check", "--workdir", overwrite=overwrite) as stage:
            preflight_check.run(main, external, stage, config.check.against, folders, small)
            experiment.report_excluded(stage, main, external, folders)
        logger.info("files of the check: %s", folder)

    # Skipping reports all unreadable cases, not the first five alone.
    run, main, external = experiment.prepare_run(
        config,
        workdir,
        experiment.store_dir(config, workdir),
        training=True,
        on_read_error="skip",
        inspect=inspect,
    )
    measurements = hardware.measure(config, run, main.cases, workdir)
    written_files.write_json(folder, "check", "hardware.json", measurements._asdict())
    for line in hardware.lines(measurements):
        logger.info("%s", line)
    unreadable = [*main.cases.excluded, *(external.cases.excluded if external else ())]
    if unreadable and config.data.on_read_error == "stop":
        count = len(main.cases) + len(external.cases if external else ())
        raise InputError(store.unreadable_message(unreadable, count))


def run_study(config: ConfigDict, workdir: Path, shard: str = "0/1") -> None:
    """Train the runs of this shard of a study and, once all have scores, compare them (`study.run_study`)."""
    # Imported late: the first step of a run does not wait for the libraries of the report, half a second.
    from kneefair_jax.runs import study

    study.run_study(config, workdir, shard)


MODES: dict[str, Callable[..., object]] = {
    "train": train,
    "evaluate": evaluate_only,
    "check": check,
    "study": run_study,
}


def _run(config: ConfigDict, workdir: Path, *, training: bool) -> bool:
    if config.data.folds:
        return _run_folds(config, workdir, training=training)
    experiment.run_experiment(config, workdir, experiment.store_dir(config, workdir), training)
    return True


def _run_folds(config: ConfigDict, workdir: Path, *, training: bool) -> bool:
    """Run the folds that `data.fold` names and, once all have scores, write the report over all folds.

    Returns:
        Whether this process wrote that report.
    """
    output_folder.require_regular_files(workdir, run_directory.OUTPUTS)
    folds = [_of_fold(config, fold) for fold in range(config.data.folds)]
    paths = [workdir / f"fold_{fold}" for fold in range(len(folds))]
    if not -1 <= config.data.fold < len(folds):
        raise InputError(
            f"config.data.fold={config.data.fold} of {len(folds)}: give 0 to {len(folds) - 1}, or -1 for all"
        )
    # Folds of an earlier start or another machine must be folds of this same run.
    for fold, path in zip(folds, paths, strict=True):
        run_directory.check_config(path, fold)
    directory = experiment.store_dir(config, workdir)
    for number, (fold, path) in enumerate(zip(folds, paths, strict=True)):
        if config.data.fold in (-1, number):
            logger.info("fold %d of %d", number, len(folds))
            experiment.run_experiment(fold, path, directory, training)
    if not distributed.is_primary():
        return False
    from kneefair_jax.evaluation import evaluate  # late, as in `run_study`

    resolution = evaluate.resolution(paths[max(config.data.fold, 0)])
    if missing := [path.name for path in paths if evaluate.resolution(path) != resolution]:
        logger.info(
            "the report over all folds waits for %s, with scores of report.resolution=%s",
            ", ".join(missing),
            resolution,
        )
        return False
    data, options = folds[0].data, experiment.store_options(config)
    cohort = cohort_loader.load(data, data.seed)
    prepared, _ = cohort_loader.prepare(data, data.seed, cohort, None, directory, options)
    experiment.report_excluded(workdir, prepared, None, experiment.private_folders(config, workdir))
    page = evaluate.merge_folds(folds[0], prepared.cohort, prepared.cases, workdir, paths)
    logger.info("all folds: %s", page)
    return True


def _of_fold(config: ConfigDict, fold: int) -> ConfigDict:
    """Return the config of one fold."""
    copy = config.copy_and_resolve_references()
    copy.data.fold = fold
    return copy
