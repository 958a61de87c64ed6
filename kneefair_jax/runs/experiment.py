"""One run: its data made ready, everything a user can get wrong checked, then trained and evaluated."""

import contextlib
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import jax
from ml_collections import ConfigDict

from kneefair_jax import cohort as cohorts
from kneefair_jax import groups, models
from kneefair_jax.data import cohort_loader, online, source, store
from kneefair_jax.data.cohort_loader import Prepared
from kneefair_jax.data.store import cache
from kneefair_jax.errors import InputError
from kneefair_jax.evaluation import evaluate
from kneefair_jax.preflight import group_sizes
from kneefair_jax.report import csv_tables
from kneefair_jax.runtime import atomic, distributed, run_directory
from kneefair_jax.training import config_checks, group_models, setup, single_group_batches, stages


def store_dir(config: ConfigDict, workdir: Path) -> Path:
    """The folder of prepared cases: `data.store`, or one in the run's."""
    return Path(config.data.store) if config.data.store else workdir / "store"


def store_options(config: ConfigDict) -> store.Options:
    """How the config wants cases to be prepared."""
    data = config.data
    return store.Options(workers=data.workers, on_broken=data.on_broken, beam=data.beam, say=say)


def known_folders(config: ConfigDict, workdir: Path) -> list[Path]:
    """The folders whose paths messages may hold, for `safe_text.strip_paths`."""
    named = (config.data.get(name, "") for name in ("root", "external", "masks", "tables", "store"))
    return [Path(path).absolute() for path in (workdir, *filter(None, named))]


def say(line: str) -> None:
    """Prints a line at once."""
    print(line, flush=True)


def prepare_run(
    config: ConfigDict,
    workdir: Path,
    directory: Path,
    *,
    training: bool,
    on_broken: str,
    inspect: Callable[[Prepared, Prepared | None], None] = lambda main, external: None,
) -> tuple[setup.Experiment, Prepared, Prepared | None]:
    """Validate a run, prepare its cases and build it: everything before the first step.

    Every user error that the config and the tables show is raised before the first byte is written.

    Args:
        config: of the run.
        workdir: its folder.
        directory: of prepared cases.
        training: False to evaluate the checkpoints of the folder.
        on_broken: as `data.on_broken`.
        inspect: gets the prepared cohorts before a lack of cases is an error.

    Returns:
        The run, its cohort with its cases, and those of the external cohort.

    Raises:
        InputError: a config, table or file cannot be used.
    """
    run_directory.check_config(workdir, config)
    cohort = cohort_loader.load(config.data, config.data.seed)
    external = cohort_loader.load_external(config.data, cohort)
    config_checks.validate(config, cohort, external)
    initial_weights = training and not run_directory.has_checkpoint(workdir)
    config_checks.validate_network(config, cohort, initial_weights=initial_weights)
    if not training:
        _require_checkpoints(config, cohort, workdir)
    # Before hours of reading, where the reading cannot change the table.
    if on_broken == "stop" and not store.is_prepared(
        online.stored_source(cohort.source, cohort.cases), cohort.grid, directory
    ):
        run_directory.check_data(workdir, table=_fingerprint(config, cohort))
    options = store_options(config)._replace(on_broken=on_broken)
    prepare = partial(
        cohort_loader.prepare, config.data, config.data.seed, cohort, external, directory, options
    )
    if jax.process_count() > 1:
        distributed.run_on_primary(prepare)  # not every file system's locks keep hosts apart
    main, external_prepared = prepare()
    inspect(main, external_prepared)
    if main.cases.left_out:
        # The cohort was loaded again without them: a group may have no case any more.
        with source.naming_unreadable(main.cases.left_out):
            config_checks.validate(
                config, main.cohort, external_prepared.cohort if external_prepared else None
            )
    table = _fingerprint(config, main.cohort)
    run_directory.check_data(workdir, table=table, pixels=main.cases.digest)
    for name in main.cohort.attributes if external_prepared else ():
        if external_prepared and (external_prepared.cohort.cases[name] == groups.MISSING).all():
            say(f"note: no external case has a value of {name}")
    return setup.build(config, main.cohort), main, external_prepared


def _fingerprint(config: ConfigDict, cohort: cohort_loader.Cohort) -> str:
    """Return the fingerprint of a cohort's table with the groups of the mitigation."""
    partition = setup.mitigation_groups(cohort, config.mitigation.groups)
    return run_directory.table_fingerprint(cohort.cases, partition.index)


def _require_checkpoints(config: ConfigDict, cohort: cohort_loader.Cohort, workdir: Path) -> None:
    partition = setup.mitigation_groups(cohort, config.mitigation.groups)
    for member in group_models.of_run(config, partition):
        if not (workdir / member.directory / "checkpoints").is_dir():
            raise InputError(f"{workdir} has no checkpoint; train first with --mode=train")


def run_experiment(config: ConfigDict, workdir: Path, directory: Path, training: bool) -> None:
    """Trains, unless it is not to, and evaluates.

    Args:
        config: of the run.
        workdir: its folder.
        directory: of prepared cases.
        training: False to evaluate what there is.

    Raises:
        InputError: something that a user gave cannot be used.
        NonFiniteLossError: training has diverged.
    """
    on_broken = config.data.on_broken
    made, main, outside = prepare_run(config, workdir, directory, training=training, on_broken=on_broken)
    with contextlib.ExitStack() as stack:
        distributed.run_on_primary(lambda: stack.enter_context(run_directory.exclusive_lock(workdir)))
        _train_and_evaluate(config, workdir, made, main, outside, training)


def _train_and_evaluate(
    config: ConfigDict,
    workdir: Path,
    made: setup.Experiment,
    main: Prepared,
    outside: Prepared | None,
    training: bool,
) -> None:
    cohort, cases = main.cohort, main.cases
    if training:
        parameters = models.count(made.state.params)
        print(f"{jax.device_count()} x {jax.devices()[0].device_kind}, {parameters:,} parameters")
        counts = cohorts.table(cohort.cases, cohort.attributes)
        print(cohorts.text(counts), flush=True)
        for note in [*cohort.notes(), *single_group_batches.notes(config, cohort)]:
            print(f"note: {note}", flush=True)
        small = group_sizes.small_groups(cohort, config.data, config.report.min_group_patients)
        for line in group_sizes.lines(small):
            print(line, flush=True)
        table = _fingerprint(config, cohort)
        distributed.run_on_primary(
            lambda: run_directory.open_run(workdir, config, table=table, pixels=cases.digest)
        )
        if distributed.is_primary():
            table_of_groups = csv_tables.guarded(counts.reset_index()).to_csv(index=False)
            atomic.write_text(workdir / "cohort.csv", table_of_groups)
    if distributed.is_primary():
        tell_left_out(workdir, main, outside, known_folders(config, workdir))
    if training:
        stages.train(config, cohort, cache.Kept(cases), workdir, made)
    page = evaluate.evaluate(
        config, made, cohort, cases, workdir, (outside.cohort, outside.cases) if outside else None
    )
    distributed.barrier("the report is written")
    print(f"report: {page}", flush=True)


def tell_left_out(
    workdir: Path, main: Prepared, outside: Prepared | None, folders: Sequence[Path] = ()
) -> None:
    """Lists the cases that were left out, on screen and in `left_out.csv`."""
    for part, name in ((main, "left_out.csv"), (outside, "left_out_external.csv")):
        listed = part.left_out if part else ()
        source.write_excluded(listed, workdir / name, folders)
        if listed:
            say(source.describe_excluded(listed, workdir / name))
