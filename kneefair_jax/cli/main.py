"""The command `kneefair`: it finds the sub-command and imports only what that needs.

`kneefair --help` and `kneefair --version` import neither JAX nor pandas.
"""

import argparse
import pkgutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, NoReturn

import kneefair_jax
from kneefair_jax.errors import InputError
from kneefair_jax.runtime import command

PROGRAM = "kneefair"
SHELLS = ("bash", "zsh", "fish")
_COMPLETION_EPILOG = """\
examples:
  kneefair completion bash > ~/.local/share/bash-completion/completions/kneefair
  kneefair completion zsh > ~/.zfunc/_kneefair
  kneefair completion fish > ~/.config/fish/completions/kneefair.fish
"""


class Task(NamedTuple):
    """A sub-command.

    Attributes:
        function: where to import it, `module:name`; it takes the arguments and returns the exit status.
        summary: a line for the help.
    """

    function: str
    summary: str


RUN_MODES = {
    "train": "train a network and evaluate it, by a config",
    "evaluate": "evaluate a run again",
    "check": "check a cohort before training",
    "study": "compare mitigations over several seeds",
}
TASKS = {
    "predict": Task("kneefair_jax.cli.main:predict", "segment radiographs"),
    "audit": Task(
        "kneefair_jax.audit.__main__:main", "audit masks or scores of any tool for gaps between groups"
    ),
    "measure": Task(
        "kneefair_jax.cli.measure:main", "measure joint space, angles and widths from masks of knees"
    ),
    "twins": Task("kneefair_jax.cli.main:twins", "test a network on knees that differ in one property"),
    "export": Task(
        "kneefair_jax.export.__main__:main", "export a network: weights with a model card, ONNX, JAX"
    ),
    "demo": Task("kneefair_jax.cli.demo:main", "train, evaluate and segment on phantoms, in minutes"),
    "init": Task("kneefair_jax.cli.init_folder:main", "draft metadata.csv for a folder of radiographs"),
    "completion": Task("kneefair_jax.cli.main:completion", "print a completion script for bash, zsh or fish"),
}
SUMMARIES = RUN_MODES | {name: task.summary for name, task in TASKS.items()}


def text() -> str:
    """Return the help."""
    return "\n".join(
        [
            f"usage: {PROGRAM} TASK [ARGUMENTS]",
            "",
            "Train U-Nets on knee radiographs, and audit segmentations for unequal quality by sex, race and age.",
            "",
            "tasks:",
            *(f"  {name:<12}{summary}" for name, summary in SUMMARIES.items()),
            "",
            f"`{PROGRAM} TASK --help` shows examples and all arguments; `{PROGRAM} --version` the version.",
            "",
            "examples:",
            f"  {PROGRAM} demo",
            f"  {PROGRAM} audit --scores cases.csv --attributes sex --out report",
            f"  {PROGRAM} train --config=folder --config.data.root=DIR --workdir=runs/mine",
            f"  {PROGRAM} predict runs/mine --images films --out segmented",
            "",
        ]
    )


def main() -> NoReturn:
    """Run the sub-command that the command line names, and exit with its status."""
    run(sys.argv)


def run(argv: Sequence[str]) -> NoReturn:
    """Run a sub-command and exit with its status.

    Args:
        argv: the program, the sub-command and its arguments.
    """
    name, arguments = (argv[1] if len(argv) > 1 else ""), list(argv[2:])
    if name in ("", "-h", "--help"):
        sys.stdout.write(text())
        sys.exit(0 if name else 2)
    if name == "--version":
        sys.stdout.write(f"{PROGRAM} {kneefair_jax.__version__}\n")
        sys.exit(0)
    if name not in SUMMARIES:
        command.Parser(prog=PROGRAM).error(_unknown(name))
    if name in RUN_MODES:
        from kneefair_jax.cli import launch

        launch.start([f"{PROGRAM} {name}", *arguments], name)
    command.exit_process(pkgutil.resolve_name(TASKS[name].function)(arguments))


def predict(argv: Sequence[str]) -> int:
    """Segment radiographs, after the export of the runs that the command names and that have no weights yet."""
    from kneefair_jax.predict.__main__ import REMEDIES

    return command.run(lambda: _predict(argv), REMEDIES)


def _predict(argv: Sequence[str]) -> int:
    # Imported late, so that a signal during the seconds that the imports take ends in one line.
    from kneefair_jax.predict import cli

    _export_runs(cli.networks(cli.parser().parse_args(argv)))
    return cli.main(argv)


def twins(argv: Sequence[str]) -> int:
    """Score twins, after the export of the runs that the command names and that have no weights yet."""
    from kneefair_jax.cli.twins import REMEDIES

    return command.run(lambda: _twins(argv), REMEDIES)


def _twins(argv: Sequence[str]) -> int:
    from kneefair_jax.cli import twins
    from kneefair_jax.predict import cli

    _export_runs(cli.networks(twins.parser().parse_args(argv)))
    return twins.main(argv)


def _export_runs(names: Sequence[str]) -> None:
    """Export the run directories among the names of networks that have no weights yet."""
    for name in names:
        if (Path(name) / "config.json").is_file():
            from kneefair_jax.export import network_files

            network_files.exported(name)


def completion(argv: Sequence[str]) -> int:
    """Print a script that completes tasks, flags and fields of configs with the tab key."""
    remedies = command.Remedies("--out", "close other programs", lambda: "the same command starts again")
    return command.run(lambda: _completion(argv), remedies)


def _completion(argv: Sequence[str]) -> int:
    options = completion_parser().parse_args(argv)
    try:
        import shtab
    except ImportError as error:
        raise InputError(
            "completion needs shtab: pip install 'kneefair_jax[completion]', in a clone pip install -e '.[completion]'"
        ) from error
    print(shtab.complete(all_tasks(), shell=options.shell))
    return 0


def completion_parser() -> argparse.ArgumentParser:
    """Return the parser of `kneefair completion`."""
    parser = command.Parser(
        prog="kneefair completion",
        description="Print a script that completes tasks, flags and fields of configs.",
        epilog=_COMPLETION_EPILOG,
    )
    parser.add_argument("shell", choices=SHELLS)
    return parser


def all_tasks() -> argparse.ArgumentParser:
    """Return one parser with a sub-command for each task, for the completion alone."""
    from kneefair_jax.audit import arguments as audit_arguments
    from kneefair_jax.cli import demo, init_folder, measure, run_help, twins
    from kneefair_jax.export import __main__ as export
    from kneefair_jax.predict import cli as predict_cli

    parsers = {
        "predict": predict_cli.parser,
        "audit": audit_arguments.parser,
        "measure": measure.parser,
        "twins": twins.parser,
        "export": export.parser,
        "demo": demo.parser,
        "init": init_folder.parser,
        "completion": completion_parser,
    }
    program_parser = argparse.ArgumentParser(prog=PROGRAM)
    program_parser.add_argument("--version", action="store_true", help="print the version")
    subparsers = program_parser.add_subparsers(dest="task")
    for name, summary in SUMMARIES.items():
        parents = [parsers[name]()] if name in parsers else []
        task = subparsers.add_parser(name, help=summary, parents=parents, add_help=not parents)
        if name in RUN_MODES:
            run_help.add_flags(task)
    return program_parser


def _unknown(name: str) -> str:
    import difflib

    near = difflib.get_close_matches(name, SUMMARIES, n=1)
    return f"unknown task {name!r}; " + (
        f"did you mean {near[0]!r}?" if near else f"give one of {', '.join(SUMMARIES)}"
    )
