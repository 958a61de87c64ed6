"""The study: mitigations x seeds on the same patients, so that the mitigation is the only difference between runs.

Each run is an ordinary run in a folder of its own, `runs/<method>/seed_<s>`; one that is finished is skipped, one that
was cut off goes on. `shard` deals the runs out over machines that share the folder; whoever finds all of them finished
writes the page.
"""

import contextlib
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
from kneefair_jax.report.text import formatting
from kneefair_jax.runs import experiment
from kneefair_jax.runs.study import trials as of_study
from kneefair_jax.runs.study.summary import DIVERGED, summary
from kneefair_jax.runs.study.trials import Trial
from kneefair_jax.runtime import (
    atomic,
    cache_directory,
    output_folder,
    preemption,
    progress,
    run_directory,
    run_files,
)
from kneefair_jax.training import config_checks
from kneefair_jax.training.loop import NonFiniteLossError


def run_study(config: ConfigDict, workdir: Path, shard: str = "0/1") -> None:
    """Makes the runs of this shard, then, if none is missing, the page.

    Args:
        config: of a run, with a section `study`.
        workdir: the study's folder.
        shard: `i/n`: this process makes every n-th run, from the i-th on, i = 0, ..., n - 1.

    Raises:
        InputError: the config is not that of a study, or holds what cannot be run.
    """
    part, parts = _shard(shard)
    output_folder.require_regular_files(workdir, run_directory.OUTPUTS)
    of_study.check(config)
    every = of_study.trials(config)
    configs = {trial: of_study.config_of(config, trial) for trial in every}
    _check(config, workdir, configs)
    experiment.say(of_study.counted(config, every))
    baseline = configs[Trial(of_study.BASELINE, config.study.seeds[0])]
    for method in config.study.methods:
        first = configs[Trial(method, config.study.seeds[0])]
        experiment.say(f"  {method:18s} {of_study.difference(baseline, first)}")
    mine = [(number, trial) for number, trial in enumerate(every, 1) if (number - 1) % parts == part]
    waiting = [(number, trial) for number, trial in mine if not _over(workdir, trial)]
    _tell_waiting(workdir, mine, waiting, parts)
    directory = experiment.store_dir(config, workdir)
    started = time.perf_counter()
    with _compilation_cache():
        for made, (number, trial) in enumerate(waiting, 1):
            preemption.check()
            folder = workdir / trial.directory
            try:
                told = _make(configs[trial], folder, directory, config.mitigation.groups)
            except NonFiniteLossError as error:
                atomic.write_text(folder / DIVERGED, f"{error}\n")
                told = str(error)
            name = trial.directory.relative_to("runs") if trial.strength is None else trial.directory
            # By the mean of these runs: methods of several models take longer.
            left = progress.time_left(made, len(waiting), time.perf_counter() - started)
            experiment.say(f"{number}/{len(every)} {name}: {told}{left}")
    if missing := [trial for trial in every if not _over(workdir, trial)]:
        experiment.say(f"the page waits for {len(missing)} runs, {missing[0].directory} among them")
        return
    page = study_page.write(workdir / "report", summary(config, workdir))
    experiment.say(f"study: {page}")


def _shard(text: str) -> tuple[int, int]:
    try:
        part, parts = (int(number) for number in text.split("/"))
    except ValueError:
        part, parts = -1, 0
    if not 0 <= part < parts:
        raise InputError(f"--shard={text}: give i/n with i from 0 to n - 1, such as 0/4")
    return part, parts


def _over(workdir: Path, trial: Trial) -> bool:
    """Whether a run is finished, or has diverged: the same steps would do so again."""
    folder = workdir / trial.directory
    return (folder / evaluate.REPORT).exists() or (folder / DIVERGED).exists()


def _check(config: ConfigDict, workdir: Path, configs: Mapping[Trial, ConfigDict]) -> None:
    """Refuses a study of which any run could not be made; an error of a method's settings names the method."""
    for trial, its_own in configs.items():
        run_directory.check_config(workdir / trial.directory, its_own)
    seed = config.study.seeds[0]
    baseline = configs[Trial(of_study.BASELINE, seed)]
    cohort = cohort_loader.load(baseline.data, baseline.data.seed)
    config_checks.validate(baseline, cohort)
    config_checks.validate_network(baseline, cohort)
    for trial, its_own in configs.items():
        if trial.seed != seed or trial.method in (of_study.BASELINE, of_study.ORACLE):
            continue
        try:
            config_checks.validate(its_own, cohort)
        except InputError as error:
            field, text = f"config.study.settings.{trial.method}", str(error)
            named = text.replace("config.mitigation", field)
            raise InputError(named if named != text else f"{field}: {text}") from error


def _tell_waiting(
    workdir: Path,
    mine: Sequence[tuple[int, Trial]],
    waiting: Sequence[tuple[int, Trial]],
    parts: int,
) -> None:
    """How many runs there are to make, and why not all."""
    resumed = sum(run_directory.has_checkpoint(workdir / trial.directory) for _, trial in waiting)
    if parts > 1:
        experiment.say(f"{len(mine)} of them are this shard's")
    if len(waiting) < len(mine) or resumed:
        experiment.say(
            f"{len(mine) - len(waiting)} finished before and skipped, {len(waiting)} to make"
            + (f", {resumed} of them from a checkpoint on" if resumed else "")
        )


def _make(config: ConfigDict, folder: Path, directory: Path, attributes: Sequence[str]) -> str:
    """One run, what it prints in its folder's `log.txt`; returns its scores, of the groups of mitigation."""
    started = time.perf_counter()
    folder.mkdir(parents=True, exist_ok=True)
    data = config.data
    folders = [folder.absolute(), *(Path(data.get(name) or "") for name in ("root", "external", "store"))]
    with (
        atomic.open_in_place(folder / "log.txt", "a") as file,
        contextlib.redirect_stdout(
            cast(TextIO, safe_text.FilteredStream(file, lambda text: _as_logged(text, *folders)))
        ),
    ):
        experiment.run_experiment(config, folder, directory, training=True)
    dice = run_files.read_report(folder / evaluate.REPORT)["scores"]["dice"]
    means = [f"Dice {dice['overall']['mean']:.4f}"]
    for block in formatting.blocks(dice["groups"], config.data.attributes):
        if set(block.key.split(",")) == set(attributes):
            of_groups = {name: dice["groups"][name]["mean"] for name in block.labels}
            means += [f"{name} {mean:.4f}" for name, mean in of_groups.items() if mean is not None]
    jax.clear_caches()  # a hundred runs' programs would fill the memory
    return f"{', '.join(means)} ({time.perf_counter() - started:.0f} s)"


def _as_logged(text: str, *folders: Path) -> str:
    """Return the text for a log that is shared; `folders` are those of the run, whose names may hold any character."""
    return safe_text.printable(safe_text.strip_paths(text, *folders))


@contextlib.contextmanager
def _compilation_cache() -> Iterator[None]:
    """Runs that differ in the seed alone are one program: compiled once, unless the user has a cache already.

    What is compiled is run unseen, so it is kept where nobody else can write, never in the study's folder.
    """
    if jax.config.jax_compilation_cache_dir:
        yield
        return
    if (directory := cache_directory.user_cache("compiled")) is None:
        experiment.say(
            "note: no compilation cache: $XDG_CACHE_HOME/kneefair_jax (or ~/.cache/kneefair_jax) is not a folder that "
            "only you can write to; every run compiles anew"
        )
        yield
        return
    jax.config.update("jax_compilation_cache_dir", str(directory))
    try:
        yield
    finally:
        jax.config.update("jax_compilation_cache_dir", None)
