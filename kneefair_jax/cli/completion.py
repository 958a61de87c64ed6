"""`kneefair completion SHELL`: a script that completes tasks, flags and fields of configs with the tab key."""

import argparse
from collections.abc import Sequence

from kneefair_jax.cli import main as command_main
from kneefair_jax.cli import run_help
from kneefair_jax.errors import InputError
from kneefair_jax.runtime import command

SHELLS = ("bash", "zsh", "fish")
REMEDIES = command.Remedies(
    option="--out", memory="close other programs", resume=lambda: "the same command starts again"
)
_EPILOG = """\
examples:
  kneefair completion bash > ~/.local/share/bash-completion/completions/kneefair
  kneefair completion zsh > ~/.zfunc/_kneefair
  kneefair completion fish > ~/.config/fish/completions/kneefair.fish
"""
_RUN_FLAGS = ("--config", "--workdir", "--shard", "--coordinator", "--processes", "--process")
_RUN_SWITCHES = ("--dry-run", "--time", "--overwrite", "--distributed")


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    command_parser = command.Parser(
        prog="kneefair completion",
        description="Print a script that completes tasks, flags and fields of configs.",
        epilog=_EPILOG,
    )
    command_parser.add_argument("shell", choices=SHELLS)
    return command_parser


def main(argv: Sequence[str]) -> int:
    """Print the script and return 0, or the status of `runtime.command`."""
    return command.run(lambda: _main(argv), REMEDIES)


def _main(argv: Sequence[str]) -> int:
    options = parser().parse_args(argv)
    try:
        import shtab
    except ImportError as error:
        raise InputError(
            "completion needs shtab: pip install 'kneefair_jax[completion]', in a clone pip install -e '.[completion]'"
        ) from error
    print(shtab.complete(all_tasks(), shell=options.shell))
    return 0


def all_tasks() -> argparse.ArgumentParser:
    """Return one parser with a sub-command for each task, for the completion alone."""
    from kneefair_jax.audit import cli as audit_cli
    from kneefair_jax.cli import demo
    from kneefair_jax.export import __main__ as export
    from kneefair_jax.predict import cli as predict_cli

    tasks = {
        "predict": predict_cli.parser,
        "audit": audit_cli.parser,
        "export": export.parser,
        "demo": demo.parser,
        "completion": parser,
    }
    program_parser = argparse.ArgumentParser(prog=command_main.PROGRAM)
    program_parser.add_argument("--version", action="store_true", help="print the version")
    subparsers = program_parser.add_subparsers(dest="task")
    for name, summary in command_main.SUMMARIES.items():
        parents = [tasks[name]()] if name in tasks else []
        task = subparsers.add_parser(name, help=summary, parents=parents, add_help=not parents)
        if name in command_main.RUN_MODES:
            _add_run_flags(task)
    return program_parser


def _add_run_flags(task: argparse.ArgumentParser) -> None:
    for flag in _RUN_FLAGS:
        task.add_argument(flag)
    for flag in _RUN_SWITCHES:
        task.add_argument(flag, action="store_true")
    fields = {field.name: field for group in run_help.groups() for field in group.fields}
    for name, field in fields.items():
        task.add_argument(f"--config.{name}", help=field.comment.replace("%", "%%") or None)
