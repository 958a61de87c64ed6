"""The study: mitigations x seeds on the same patients, so that the mitigation is the only difference between runs.

Each run is an ordinary run in its own folder, `runs/<method>/seed_<s>`. Finished runs are skipped, interrupted ones
resume. `shard` distributes the runs over machines that share the folder; the last one to finish writes the page.
"""

import contextlib
import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TextIO, cast

import jax
from ml_collections import ConfigDict

from kneefair_jax import safe_text
from kneefair_jax.data import cohort_loader
from kneefair_jax.errors import InputError
from kneefair_jax.evaluation import evaluate
from kneefair_jax.report import study_page
from kneefair_jax.report.page import plain
from kneefair_jax.report.text import formatting
from kneefair_jax.runs import experiment, study_trials
from kneefair_jax.runs.study_summary import DIVERGED, summary
from kneefair_jax.runs.study_trials import Trial
from kneefair_jax.runtime import (
    atomic,
    output_folder,
    preemption,
    progress,
    run_directory,
    run_files,
)
from kneefair_jax.training import config_checks
from kneefair_jax.training.loop import NonFiniteLossError

logger = logging.getLogger(__name__)


def run_study(config: ConfigDict, workdir: Path, shard: str = "0/1") -> None:
    """Train the runs of this shard, then, if none is missing, write the page.

    Args:
        config: of a run, with a section `study`.
        workdir: the study's folder.
        shard: `i/n`: this process trains every n-th run, from the i-th on, i = 0, ..., n - 1.

    Raises:
        InputError: the config is not that of a study, or one of its runs cannot work.
    """
    configs, remaining = plan(config, workdir, shard)
    trials = list(configs)
    directory = experiment.store_dir(config, workdir)
    start = time.perf_counter()
    with _compilation_cache():
        for count, (number, trial) in enumerate(remaining, 1):
            preemption.check()
            folder = workdir / trial.directory
            try:
                result = _run(configs[trial], folder, directory, config.mitigation.groups)
            except NonFiniteLossError as error:
                atomic.write_text(folder / DIVERGED, f"{error}\n")
                result = str(error)
            name = trial.directory.relative_to("runs") if trial.strength is None else trial.directory
            # By the mean of these runs: methods of several models take longer.
            left = progress.time_left(count, len(remaining), time.perf_counter() - start)
            logger.info("%d/%d %s: %s%s", number, len(trials), name, result, left)
    if missing := [trial for trial in trials if not _is_over(workdir, trial)]:
        logger.info("the page waits for %d runs, such as %s", len(missing), missing[0].directory)
        return
    study = plain(summary(config, workdir))
    logger.info("study: %s", study_page.write(workdir / "report", study))
    choice = study_page.recommendation(study)
    export = study_page.export_command(workdir / choice.path)
    logger.info("recommended method: %s; export its best run: %s", choice.method, export)


def plan(
    config: ConfigDict, workdir: Path, shard: str = "0/1"
) -> tuple[dict[Trial, ConfigDict], list[tuple[int, Trial]]]:
    """Validate a study, log its runs, and return what remains to do; nothing is written. Arguments as `run_study`.

    Returns:
        The config of every run, and the number (from 1) and the run of those that this shard has to train.

    Raises:
        InputError: the config is not that of a study, or one of its runs cannot work.
    """
    index, shards = _shard(shard)
    output_folder.require_regular_files(workdir, run_directory.OUTPUTS)
    study_trials.check(config)
    trials = study_trials.trials(config)
    configs = {trial: study_trials.config_of(config, trial) for trial in trials}
    _validate(config, workdir, configs)
    logger.info("%s", study_trials.describe(config, trials))
    baseline = configs[Trial(study_trials.BASELINE, config.study.seeds[0])]
    for method in config.study.methods:
        run = configs[Trial(method, config.study.seeds[0])]
        logger.info("  %-18s %s", method, study_trials.difference(baseline, run))
    numbered = [(number, trial) for number, trial in enumerate(trials, 1) if (number - 1) % shards == index]
    remaining = [(number, trial) for number, trial in numbered if not _is_over(workdir, trial)]
    _log_remaining(workdir, numbered, remaining, shards)
    return configs, remaining


def _shard(text: str) -> tuple[int, int]:
    try:
        index, shards = (int(number) for number in text.split("/"))
    except ValueError:
        index, shards = -1, 0
    if not 0 <= index < shards:
        raise InputError(f"--shard={text}: give i/n with i from 0 to n - 1, such as 0/4")
    return index, shards


def _is_over(workdir: Path, trial: Trial) -> bool:
    """Return whether a run has finished or diverged: the same steps would diverge again."""
    folder = workdir / trial.directory
    return (folder / evaluate.REPORT).exists() or (folder / DIVERGED).exists()


def _validate(config: ConfigDict, workdir: Path, configs: Mapping[Trial, ConfigDict]) -> None:
    """Refuse a study with a run that cannot work; an error in a method's settings names the method."""
    for trial, run in configs.items():
        run_directory.check_config(workdir / trial.directory, run)
    seed = config.study.seeds[0]
    baseline = configs[Trial(study_trials.BASELINE, seed)]
    cohort = cohort_loader.load(baseline.data, baseline.data.seed)
    config_checks.validate(baseline, cohort)
    config_checks.validate_network(baseline, cohort)
    cohorts: dict[float | None, cohort_loader.Cohort] = {None: cohort}
    for trial, run in configs.items():
        if trial.seed != seed or trial.method in (study_trials.BASELINE, study_trials.ORACLE):
            continue
        if trial.strength not in cohorts:  # the sweep changes which patients are in the training split
            cohorts[trial.strength] = cohort_loader.load(run.data, run.data.seed)
        try:
            config_checks.validate(run, cohorts[trial.strength])
        except InputError as error:
            field, message = f"config.study.settings.{trial.method}", str(error)
            renamed = message.replace("config.mitigation", field)
            raise InputError(renamed if renamed != message else f"{field}: {message}") from error


def _log_remaining(
    workdir: Path,
    numbered: Sequence[tuple[int, Trial]],
    remaining: Sequence[tuple[int, Trial]],
    shards: int,
) -> None:
    """Log how many of this shard's runs remain."""
    resumed = sum(run_directory.has_checkpoint(workdir / trial.directory) for _, trial in remaining)
    if shards > 1:
        logger.info("%d of them in this shard", len(numbered))
    if len(remaining) < len(numbered) or resumed:
        logger.info(
            "%d already finished and skipped, %d to train%s",
            len(numbered) - len(remaining),
            len(remaining),
            f", {resumed} of them from a checkpoint" if resumed else "",
        )


def _run(config: ConfigDict, folder: Path, directory: Path, attributes: Sequence[str]) -> str:
    """Train one run, with its output in its folder's `log.txt`, and return its scores by the groups of mitigation."""
    start = time.perf_counter()
    folder.mkdir(parents=True, exist_ok=True)
    data = config.data
    folders = [folder.absolute(), *(Path(data.get(name) or "") for name in ("root", "external", "store"))]
    with (
        atomic.open_in_place(folder / "log.txt", "a") as file,
        contextlib.redirect_stdout(
            cast(TextIO, safe_text.FilteredStream(file, lambda text: _public_text(text, *folders)))
        ),
    ):
        experiment.run_experiment(config, folder, directory, training=True)
    dice = run_files.read_report(folder / evaluate.REPORT)["scores"]["dice"]
    means = [f"Dice {dice['overall']['mean']:.4f}"]
    for groups in formatting.attribute_groups(dice["groups"], config.data.attributes):
        if set(groups.key.split(",")) == set(attributes):
            by_group = {name: dice["groups"][name]["mean"] for name in groups.labels}
            means += [f"{name} {mean:.4f}" for name, mean in by_group.items() if mean is not None]
    jax.clear_caches()  # a hundred runs' programs would fill the memory
    return f"{', '.join(means)} ({time.perf_counter() - start:.0f} s)"


def _public_text(text: str, *folders: Path) -> str:
    """Return the text without private paths, for a shared log; names of the run's folders may hold any character."""
    return safe_text.printable(safe_text.strip_paths(text, *folders))


@contextlib.contextmanager
def _compilation_cache() -> Iterator[None]:
    """Compile runs that differ in the seed alone once, unless the user has set a cache.

    Compiled programs run unchecked, so the cache is where only the user can write, never in the study's folder.
    """
    if jax.config.jax_compilation_cache_dir:
        yield
        return
    if (directory := output_folder.user_cache("compiled")) is None:
        logger.warning(
            "note: no compilation cache: $XDG_CACHE_HOME/kneefair_jax (or ~/.cache/kneefair_jax) is not a folder that "
            "only you can write to; every run compiles again"
        )
        yield
        return
    jax.config.update("jax_compilation_cache_dir", str(directory))
    try:
        yield
    finally:
        jax.config.update("jax_compilation_cache_dir", None)
