"""Run kneefair_jax: `python launch.py --config=configs/quickstart.py --workdir=runs/quickstart`."""

import re
import sys
import traceback
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from absl import app, flags, logging
from ml_collections import config_flags

from kneefair_jax import safe_text
from kneefair_jax.errors import InputError
from kneefair_jax.runtime import atomic, command

_CONFIG = config_flags.DEFINE_config_file("config", None, "Path to a config file.", lock_config=True)
_WORKDIR = flags.DEFINE_string(
    "workdir", None, "The run's folder: checkpoints, tables, report.", required=True
)
_MODE = flags.DEFINE_enum(
    "mode", "train", ["check", "evaluate", "study", "train"], "What to do; train ends with an evaluation."
)
_SHARD = flags.DEFINE_string(
    "shard", "0/1", "Of a study: i/n trains every n-th run from the i-th on, i = 0, ..., n - 1."
)
_DISTRIBUTED = flags.DEFINE_bool(
    "distributed",
    False,
    "One of several processes of a run; SLURM, MPI, Kubernetes and Cloud TPUs are detected.",
)
_COORDINATOR = flags.DEFINE_string(
    "coordinator", "", "Of several processes on other clusters: host:port of the first one."
)
_PROCESSES = flags.DEFINE_integer("processes", 0, "With --coordinator: the number of processes.")
_PROCESS = flags.DEFINE_integer("process", -1, "With --coordinator: the number of this process, from 0.")
flags.mark_flag_as_required("config")


def main(argv: Sequence[str]) -> None:
    """Run the mode and exit with the status of `runtime.command`; schedulers restart the command at status 75."""
    if len(argv) > 1:
        raise app.UsageError(f"unexpected arguments: {argv[1:]}")
    status = command.run(lambda: _run(Path(_WORKDIR.value)), REMEDIES)
    if status in (command.BAD_INPUT, command.FAILED):
        from kneefair_jax.runtime import distributed

        distributed.exit_process(status, wait_for_peers=status == command.BAD_INPUT)
    command.exit_process(status)


def _run(workdir: Path) -> int:
    # Imported late, so that a signal during these seconds of imports ends in one line.
    import jax

    from kneefair_jax.runs import modes
    from kneefair_jax.runtime import distributed
    from kneefair_jax.training import config_checks
    from kneefair_jax.training.loop import NonFiniteLossError

    logging.set_verbosity(logging.ERROR)
    try:
        if _MODE.value != "study" and flags.FLAGS["shard"].present:
            raise InputError(
                f"--shard distributes the runs of --mode=study; drop it with --mode={_MODE.value}"
            )
        config_checks.validate_config(_CONFIG.value)
        if _DISTRIBUTED.value or _COORDINATOR.value:
            _check_distributed()
            distributed.start(_COORDINATOR.value, _PROCESSES.value, _PROCESS.value)
        shard = {"shard": _SHARD.value} if _MODE.value == "study" else {}
        # Before the seconds in which tables are read and networks built.
        path = config_flags.get_config_filename(flags.FLAGS["config"])
        print(f"--mode={_MODE.value}: {path} in {workdir}", flush=True)
        modes.MODES[_MODE.value](_CONFIG.value, workdir, **shard)
    except NonFiniteLossError as error:  # the same command would diverge again
        raise InputError(str(error)) from error
    except Exception as error:
        if not jax.distributed.is_initialized() or isinstance(error, InputError):
            raise
        traceback.print_exc()  # may name the process that failed
        if message := distributed.peer_failure(error):
            raise command.CommandError(message) from error
        if atomic.describe_storage_error(error, REMEDIES.option):
            raise
        distributed.exit_process(1)  # a normal exit would wait for processes that may have exited
    return 0


def _resume() -> str:
    if not flags.FLAGS.is_parsed():
        return "the same command starts again"
    # Not by `run_directory`, whose imports may be what was interrupted.
    checkpoints = Path(_WORKDIR.value).glob("**/checkpoints/*")
    resumes = _MODE.value in ("train", "study") and any(path.name.isdigit() for path in checkpoints)
    return "the same command " + ("resumes from the last checkpoint" if resumes else "starts again")


REMEDIES = command.Remedies(
    option="--workdir",
    memory="give a smaller --config.train.batch_size or --config.data.size",
    resume=_resume,
)


def _check_distributed() -> None:
    """Refuse modes and folds that several hosts cannot run together, because all hosts would write."""
    if _MODE.value in ("study", "check"):
        raise InputError(
            f"--mode={_MODE.value} runs on one host; drop --distributed and --coordinator"
            + (" and distribute its runs with --shard=i/n" if _MODE.value == "study" else "")
        )
    if _CONFIG.value.data.folds and _CONFIG.value.data.fold == -1:
        raise InputError("data.folds: several hosts train one fold at a time; give --config.data.fold=k")


def parse_flags(argv: list[str]) -> list[str]:
    """Parse the flags with absl; an error in a flag, a field or the config file becomes one line."""
    if not (message := _unusable_field(argv)):
        from kneefair_jax.runs import config_file

        flags.FLAGS["config"].parser = parser = config_file.Parser()
        try:
            return list(flags.FLAGS(argv))
        except (AttributeError, KeyError, flags.Error, TypeError, ValueError) as error:
            message = parser.describe_error(error, _config_fields(argv))
    print(f"error: {safe_text.printable(' '.join(message.split()))}", file=sys.stderr)
    sys.exit(2)


def _unusable_field(argv: Sequence[str]) -> str:
    """Return the error of a config field that is given twice or has moved; empty where there is none."""
    from kneefair_jax.runtime import run_files

    fields = _config_fields(argv)
    for field, count in Counter(fields).items():
        if new := run_files.new_name(field.removeprefix("config.")):
            return f"--{field}: this field is now config.{new}; give --config.{new}"
        if count > 1:
            return f"--{field} is given more than once; give each field once, a tuple with all of its values"
    return ""


def _config_fields(argv: Sequence[str]) -> list[str]:
    """Return the config's field of each flag that sets one; ml_collections appends a repeated tuple to the first."""
    words = list(argv[: argv.index("--")]) if "--" in argv else argv
    flag = re.compile(r"--?(?:no)?(config\.[^=]+)(?:=.*)?", re.DOTALL)
    return [match[1] for word in words if (match := flag.fullmatch(word))]


def _start() -> NoReturn:
    """Read the flags and the config, then run `main`."""
    import jax

    jax.config.config_with_absl()
    app.run(main, flags_parser=parse_flags)
    raise AssertionError("app.run exits")


if __name__ == "__main__":
    command.exit_process(command.run(_start, REMEDIES))
