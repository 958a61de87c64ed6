"""The help of `kneefair train`, `evaluate`, `check` and `study`, and of `launch.py`."""

from kneefair_jax.cli import field_help

_ABOUT = {
    "train": "Train a network on a cohort and evaluate it; the same command resumes an interrupted run.",
    "evaluate": "Evaluate a run again: with another selection rule, another report or an external cohort.",
    "check": "Read a cohort before training: faults of files, duplicates, label errors, speed of this machine.",
    "study": "Train several mitigations with several seeds on the same patients, and compare them.",
}
_EXAMPLES = {
    "train": (
        "--config=quickstart --workdir=runs/quickstart",
        "--config=folder --config.data.root=DIR --workdir=runs/mine",
        "--config=quickstart --workdir=runs/quickstart --dry-run",
    ),
    "evaluate": (
        "runs/quickstart",
        "runs/quickstart --config.select=worst_group",
        "runs/quickstart --config.data.external=DIR",
    ),
    "check": ("--config=folder --config.data.root=DIR --workdir=runs/mine",),
    "study": (
        "--config=study --workdir=runs/study",
        "--config=study_folder --config.data.root=DIR --workdir=runs/study --shard=0/4",
    ),
}
_FLAGS = {
    "--config=CONFIG": "a config file, a shipped one (quickstart, smoke, folder, study), or a run's config.json",
    "--workdir=DIR": "the run's folder: checkpoints, tables, report",
    "--config.FIELD=VALUE": "a field of the config, listed below; tuples in quotes: \"('sex','age')\"",
    "--mode=MODE": "of launch.py: train (default), evaluate, check or study",
    "--dry-run": "show cohort, splits, groups and steps; train nothing, and write nothing",
    "--time": "with --dry-run: also compile and time a few steps, for an estimate of the time",
    "--overwrite": "check: replace the result of an earlier check",
    "--shard=I/N": "study: train every N-th run from the I-th on, I = 0, ..., N - 1",
    "--distributed": "one of several processes of a run; SLURM, MPI, Kubernetes and Cloud TPUs are detected",
    "--coordinator=HOST:PORT": "of the first of several processes on other clusters",
    "--processes=N": "with --coordinator: the number of processes",
    "--process=K": "with --coordinator: the number of this process, from 0",
    "--helpfull": "all flags, with those of the libraries",
}


def text(program: str, mode: str) -> str:
    """Return the help.

    Args:
        program: as typed: `kneefair train`, `launch.py`.
        mode: the mode that the program runs.
    """
    folder = "RUN [--config.FIELD=VALUE ...]\n       " if mode == "evaluate" else ""
    usage = f"usage: {program} {folder}{f'{program} ' if folder else ''}--config=CONFIG --workdir=DIR"
    width = max(map(len, _FLAGS)) + 2
    return "\n".join(
        [
            f"{usage} [--config.FIELD=VALUE ...]",
            "",
            _ABOUT[mode],
            "",
            "examples:",
            *(f"  {program} {example}" for example in _EXAMPLES[mode]),
            "",
            "flags:",
            *(f"  {flag:<{width}}{meaning}" for flag, meaning in _FLAGS.items()),
            "",
            "fields of the config, each as --config.FIELD=VALUE:",
            "",
            field_help.text(),
            "",
        ]
    )
