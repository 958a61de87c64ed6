"""The study: mitigations x seeds on the same patients, so that the mitigation is the only difference between runs.

Each run is an ordinary run in a folder of its own, `runs/<method>/seed_<s>`; one that is finished is skipped, one that
was cut off goes on. `shard` deals the runs out over machines that share the folder; whoever finds all of them finished
writes the page.
"""

import contextlib
import json
import time
from collections.abc import Iterator
from pathlib import Path

import jax
from ml_collections import ConfigDict

from kneefair_jax import run, run_folder
from kneefair_jax.errors import InputError
from kneefair_jax.report import study_page
from kneefair_jax.study import trials as of_study
from kneefair_jax.study.summary import DIVERGED, REPORT, summary
from kneefair_jax.study.trials import Trial
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
    of_study.check(config)
    every = of_study.trials(config)
    configs = {trial: of_study.config_of(config, trial) for trial in every}
    for trial, its_own in configs.items():
        run_folder.check_config(workdir / trial.directory, its_own)
        if trial.seed == config.study.seeds[0]:
            run.check(its_own)
    run.say(f"{len(every)} runs: {len(config.study.seeds)} seeds of each")
    baseline = configs[Trial(of_study.BASELINE, config.study.seeds[0])]
    for method in config.study.methods:
        first = configs[Trial(method, config.study.seeds[0])]
        run.say(f"  {method:18s} {of_study.difference(baseline, first)}")
    directory = run.store_of(config, workdir)
    with _compilation_cache(workdir / "compiled"):
        for number, trial in enumerate(every):
            if number % parts == part and not _over(workdir, trial):
                try:
                    _make(
                        configs[trial],
                        workdir / trial.directory,
                        directory,
                        f"{number + 1}/{len(every)}",
                        trial,
                    )
                except NonFiniteLossError as error:
                    (workdir / trial.directory / DIVERGED).write_text(f"{error}\n")
                    run.say(f"{number + 1}/{len(every)} {trial.directory}: {error}")
    if missing := [trial for trial in every if not _over(workdir, trial)]:
        run.say(f"the page waits for {len(missing)} runs, {missing[0].directory} among them")
        return
    page = study_page.write(workdir / "report", summary(config, workdir))
    run.say(f"study: {page}")


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
    return (folder / REPORT).exists() or (folder / DIVERGED).exists()


def _make(config: ConfigDict, folder: Path, directory: Path, number: str, trial: Trial) -> None:
    """One run, what it prints in its folder's `log.txt`."""
    started = time.perf_counter()
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "log.txt").open("a") as log, contextlib.redirect_stdout(log):
        run.one(config, folder, directory, training=True)
    dice = json.loads((folder / REPORT).read_text())["scores"]["dice"]
    means = ", ".join(
        f"{name} {entry['mean']:.4f}" for name, entry in dice["groups"].items() if entry["mean"] is not None
    )
    run.say(
        f"{number} {trial.directory.relative_to('runs') if trial.strength is None else trial.directory}: Dice "
        f"{dice['overall']['mean']:.4f}, {means} ({time.perf_counter() - started:.0f} s)"
    )
    jax.clear_caches()  # a hundred runs' programs would fill the memory


@contextlib.contextmanager
def _compilation_cache(directory: Path) -> Iterator[None]:
    """Runs that differ in the seed alone are one program: compiled once, unless the user has a cache already."""
    if jax.config.jax_compilation_cache_dir:
        yield
        return
    jax.config.update("jax_compilation_cache_dir", str(directory.absolute()))
    try:
        yield
    finally:
        jax.config.update("jax_compilation_cache_dir", None)
