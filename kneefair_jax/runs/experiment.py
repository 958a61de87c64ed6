"""One run: validate its config, prepare its cases, build it, train, evaluate."""

import contextlib
import logging
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import jax
from ml_collections import ConfigDict

from kneefair_jax import cohort as cohorts
from kneefair_jax import groups, models
from kneefair_jax.data import cohort_loader, pipeline, source, store
from kneefair_jax.data.cohort_loader import Cohort, Prepared
from kneefair_jax.errors import InputError
from kneefair_jax.preflight import group_sizes
from kneefair_jax.report import csv_tables
from kneefair_jax.runtime import atomic, distributed, run_directory
from kneefair_jax.training import config_checks, scoring, setup, stages

logger = logging.getLogger(__name__)


def store_dir(config: ConfigDict, workdir: Path) -> Path:
    """Return the folder of prepared cases: `data.store`, or one in the run's folder."""
    return Path(config.data.store) if config.data.store else workdir / "store"


def store_options(config: ConfigDict) -> store.Options:
    """Return the options for preparing cases."""
    data = config.data
    return store.Options(
        workers=data.workers, on_read_error=data.on_read_error, beam=data.beam, say=logger.info
    )


def private_folders(config: ConfigDict, workdir: Path) -> list[Path]:
    """Return the folders whose paths messages may hold, for `safe_text.strip_paths`."""
    paths = (config.data.get(name, "") for name in ("root", "external", "masks", "tables", "store"))
    return [Path(path).absolute() for path in (workdir, *filter(None, paths))]


def run_experiment(config: ConfigDict, workdir: Path, directory: Path, training: bool) -> None:
    """Train, if `training` is set, and evaluate.

    Args:
        config: of the run.
        workdir: its folder.
        directory: of prepared cases.
        training: False to evaluate the checkpoints of the folder.

    Raises:
        InputError: a config, table or file cannot be used.
        NonFiniteLossError: training has diverged.
    """
    experiment, main, external = prepare_run(
        config, workdir, directory, training=training, on_read_error=config.data.on_read_error
    )
    with contextlib.ExitStack() as stack:
        distributed.run_on_primary(lambda: stack.enter_context(run_directory.exclusive_lock(workdir)))
        if training:
            _log_run(config, experiment, main.cohort)
            open_run(config, workdir, main)
        if distributed.is_primary():
            report_excluded(workdir, main, external, private_folders(config, workdir))
        if training:
            stages.train(config, main.cohort, pipeline.CachedCases(main.cases), workdir, experiment)
        # Imported late: the first step does not wait for the libraries of the report, half a second.
        from kneefair_jax.evaluation import evaluate

        external_cohort = (external.cohort, external.cases) if external else None
        page = evaluate.evaluate(config, experiment, main.cohort, main.cases, workdir, external_cohort)
        distributed.barrier("the report is written")
        logger.info("report: %s", page)


def prepare_run(
    config: ConfigDict,
    workdir: Path,
    directory: Path,
    *,
    training: bool,
    on_read_error: str,
    inspect: Callable[[Prepared, Prepared | None], None] = lambda main, external: None,
) -> tuple[setup.Experiment, Prepared, Prepared | None]:
    """Validate a run, prepare its cases and build it: everything before the first step.

    Every user error that the config and the tables show is raised before the first byte is written.

    Args:
        config: of the run.
        workdir: its folder.
        directory: of prepared cases.
        training: False to evaluate the checkpoints of the folder.
        on_read_error: as `data.on_read_error`.
        inspect: gets the prepared cohorts before a lack of cases is an error.

    Returns:
        The run, its cohort with its cases, and the external cohort with its cases.

    Raises:
        InputError: a config, table or file cannot be used.
    """
    cohort, external = validate_run(config, workdir, training=training)
    # Before hours of reading, where the reading cannot change the table.
    stored = pipeline.stored_source(cohort.source, cohort.cases)
    if on_read_error == "stop" and not store.is_prepared(stored, cohort.grid, directory):
        run_directory.check_data(workdir, table=_fingerprint(config, cohort))
    options = store_options(config)._replace(on_read_error=on_read_error)
    prepare = partial(
        cohort_loader.prepare, config.data, config.data.seed, cohort, external, directory, options
    )
    if jax.process_count() > 1:
        distributed.run_on_primary(prepare)  # not every file system's locks keep hosts apart
    main, external_cases = prepare()
    inspect(main, external_cases)
    if main.cases.excluded:
        # The cohort was loaded again without them: a group may have no case any more.
        with source.naming_unreadable(main.cases.excluded):
            config_checks.validate(config, main.cohort, external_cases.cohort if external_cases else None)
    table = _fingerprint(config, main.cohort)
    run_directory.check_data(workdir, table=table, pixels=main.cases.digest)
    if external_cases:
        for name in main.cohort.attributes:
            if (external_cases.cohort.cases[name] == groups.MISSING).all():
                logger.warning("note: no external case has a value of %s", name)
    return setup.build(config, main.cohort), main, external_cases


def validate_run(config: ConfigDict, workdir: Path, *, training: bool) -> tuple[Cohort, Cohort | None]:
    """Return the cohort and the external cohort of a run that its config and tables allow; nothing is written.

    Args:
        config: of the run.
        workdir: its folder.
        training: False to evaluate the checkpoints of the folder.

    Raises:
        InputError: a config or table cannot be used, or there is no checkpoint to evaluate.
    """
    run_directory.check_config(workdir, config)
    cohort = cohort_loader.load(config.data, config.data.seed)
    external = cohort_loader.load_external(config.data, cohort)
    config_checks.validate(config, cohort, external)
    initial_weights = training and not run_directory.has_checkpoint(workdir)
    config_checks.validate_network(config, cohort, initial_weights=initial_weights)
    if not training:
        _require_checkpoints(config, cohort, workdir)
    return cohort, external


def report_excluded(
    workdir: Path, main: Prepared, external: Prepared | None, folders: Sequence[Path] = ()
) -> None:
    """Log the excluded cases, and list them in `excluded.csv` and `excluded_external.csv`."""
    for cohort, name in ((main, "excluded.csv"), (external, "excluded_external.csv")):
        excluded = cohort.excluded if cohort else ()
        source.write_excluded(excluded, workdir / name, folders)
        if excluded:
            logger.warning("%s", source.describe_excluded(excluded, workdir / name))


def _log_run(config: ConfigDict, experiment: setup.Experiment, cohort: Cohort) -> None:
    """Log devices, parameters, groups and notes of a run before its first step."""
    devices, parameters = jax.devices(), models.count(experiment.state.params)
    logger.info("%d x %s, %s parameters", len(devices), devices[0].device_kind, f"{parameters:,}")
    logger.info("%s", cohorts.text(cohorts.table(cohort.cases, cohort.attributes)))
    for note in [*cohort.notes(), *setup.single_group_notes(config, cohort)]:
        logger.warning("note: %s", note)
    small = group_sizes.small_groups(cohort, config.data, config.report.min_group_patients)
    for line in group_sizes.lines(small):
        logger.warning("%s", line)


def open_run(config: ConfigDict, workdir: Path, main: Prepared) -> None:
    """Write the config, the environment and the counts of the groups into the run's folder."""
    table = _fingerprint(config, main.cohort)
    distributed.run_on_primary(
        lambda: run_directory.open_run(workdir, config, table=table, pixels=main.cases.digest)
    )
    if distributed.is_primary():
        counts = cohorts.table(main.cohort.cases, main.cohort.attributes)
        text = csv_tables.escape_formulas(counts.reset_index()).to_csv(index=False)
        atomic.write_text(workdir / "cohort.csv", text)


def _fingerprint(config: ConfigDict, cohort: Cohort) -> str:
    """Return the fingerprint of a cohort's table with the groups of the mitigation."""
    partition = setup.mitigation_groups(cohort, config.mitigation.groups)
    return run_directory.table_fingerprint(cohort.cases, partition.index)


def _require_checkpoints(config: ConfigDict, cohort: Cohort, workdir: Path) -> None:
    partition = setup.mitigation_groups(cohort, config.mitigation.groups)
    for model in scoring.of_run(config, partition):
        if not (workdir / model.directory / "checkpoints").is_dir():
            raise InputError(f"{workdir} has no checkpoint; train first with --mode=train")
