"""One run: its data made ready, everything a user can get wrong checked, then trained and evaluated."""

import contextlib
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import jax
import numpy as np
from ml_collections import ConfigDict

from kneefair_jax import cohort as cohorts
from kneefair_jax import groups, models
from kneefair_jax.data import case_arrays, cohort_loader, source, store
from kneefair_jax.data.cohort_loader import Prepared
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
    return store.Options(workers=data.workers, on_read_error=data.on_read_error, beam=data.beam, say=say)


def known_folders(config: ConfigDict, workdir: Path) -> list[Path]:
    """The folders whose paths messages may hold, for `safe_text.without_paths`."""
    named = (config.data.get(name, "") for name in ("root", "external", "masks", "tables", "store"))
    return [Path(path).absolute() for path in (workdir, *filter(None, named))]


def say(line: str) -> None:
    """Prints a line at once."""
    print(line, flush=True)


def check(config: ConfigDict, *, network: bool = True) -> None:
    """Refuses a run that cannot be made, as far as its table tells; no image is read.

    Args:
        config: of the run.
        network: False where another run's check has looked at the same network.

    Raises:
        InputError: something that a user gave cannot be used.
    """
    cohort = cohort_loader.load(config.data, config.data.seed)
    partition, train = setup.check(config, cohort)
    setup.training_order(config, cohort, partition, train)
    stages.check(config, cohort)
    if network:
        setup.check_network(config, cohort)


def prepare_run(
    config: ConfigDict,
    workdir: Path,
    directory: Path,
    *,
    training: bool,
    on_read_error: str,
    inspect: Callable[[Prepared, Prepared | None], None] = lambda main, external: None,
) -> tuple[setup.Experiment, Prepared, Prepared | None]:
    """All that precedes the first step. What a user can get wrong is checked before the first byte is written.

    Args:
        config: of the run.
        workdir: its folder.
        directory: of prepared cases.
        training: False to evaluate what there is.
        on_read_error: as `data.on_read_error`.
        inspect: gets the cohorts as soon as they are prepared, before anything is refused for want of cases.

    Raises:
        InputError: something that a user gave cannot be used.
    """
    run_directory.check_config(workdir, config)
    cohort = cohort_loader.load(config.data, config.data.seed)
    external = cohort_loader.load_external(config.data, cohort)
    setup.check(config, cohort)
    setup.check_network(config, cohort, start=training and not run_directory.has_checkpoint(workdir))
    made = setup.build(config, cohort)
    table = run_directory.table_fingerprint(cohort.cases, made.partition.index)
    # Before hours of reading, where the reading cannot change the table.
    if on_read_error == "stop" and not store.is_prepared(
        case_arrays.stored_source(cohort.source, cohort.cases), cohort.grid, directory
    ):
        run_directory.check_data(workdir, table=table)
    stages.check(config, cohort)
    _check_external(config, made, external)
    if not training:
        for member in group_models.of_run(config, made.partition):
            if not (workdir / member.directory / "checkpoints").is_dir():
                raise InputError(f"{workdir} holds no checkpoint; train first with --mode=train")
    options = store_options(config)._replace(on_read_error=on_read_error)
    prepare = partial(
        cohort_loader.prepare, config.data, config.data.seed, cohort, external, directory, options
    )
    if jax.process_count() > 1:
        distributed.run_on_primary(prepare)  # not every file system's locks keep hosts apart
    main, outside = prepare()
    inspect(main, outside)
    if main.cases.excluded:  # then the cohort was loaded again without them
        # Groups that only the cases left out had are no groups any more, here and there.
        with source.naming_unreadable(main.cases.excluded):
            made = setup.build(config, main.cohort)
            stages.check(config, main.cohort)
            _check_external(config, made, outside.cohort if outside else None)
        table = run_directory.table_fingerprint(main.cohort.cases, made.partition.index)
    run_directory.check_data(workdir, table=table, pixels=main.cases.digest)
    for name in main.cohort.attributes if outside else ():
        if outside and (outside.cohort.cases[name] == groups.MISSING).all():
            say(f"note: {name} is known of no external case")
    return made, main, outside


def _check_external(
    config: ConfigDict, made: setup.Experiment, external: cohort_loader.Cohort | None
) -> None:
    """Refuses external cases that the run's mitigation could not segment."""
    if external:
        theirs = made.partition._replace(index=groups.indexed(external.cases, made.partition))
        config_checks.check_known_groups(config.mitigation, theirs, np.arange(len(theirs.index)), "external")


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
    on_read_error = config.data.on_read_error
    made, main, outside = prepare_run(
        config, workdir, directory, training=training, on_read_error=on_read_error
    )
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
        table = run_directory.table_fingerprint(cohort.cases, made.partition.index)
        distributed.run_on_primary(
            lambda: run_directory.open_run(workdir, config, table=table, pixels=cases.digest)
        )
        if distributed.is_primary():
            table_of_groups = csv_tables.guarded(counts.reset_index()).to_csv(index=False)
            atomic.write_text(workdir / "cohort.csv", table_of_groups)
    if distributed.is_primary():
        tell_left_out(workdir, main, outside, known_folders(config, workdir))
    if training:
        stages.train(config, cohort, case_arrays.CachedCases(cases), workdir)
    page = evaluate.evaluate(
        config, made, cohort, cases, workdir, (outside.cohort, outside.cases) if outside else None
    )
    distributed.barrier("the report is written")
    print(f"report: {page}", flush=True)


def tell_left_out(
    workdir: Path, main: Prepared, outside: Prepared | None, folders: Sequence[Path] = ()
) -> None:
    """Lists the cases that were left out, on screen and in `excluded.csv`."""
    for part, name in ((main, "excluded.csv"), (outside, "excluded_external.csv")):
        listed = part.excluded if part else ()
        source.write_excluded(listed, workdir / name, folders)
        if listed:
            say(source.describe_excluded(listed, workdir / name))
