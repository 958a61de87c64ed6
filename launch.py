"""Runs kneefair_jax: `python launch.py --config=configs/quickstart.py --workdir=runs/quickstart`."""

import re
import sys
import traceback
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import jax
from absl import app, flags, logging
from ml_collections import config_flags

from kneefair_jax import safe_text
from kneefair_jax.errors import InputError
from kneefair_jax.runs import config_file, modes
from kneefair_jax.runtime import distributed, io_errors, preemption, run_directory
from kneefair_jax.training import config_checks
from kneefair_jax.training.loop import NonFiniteLossError

_CONFIG = config_flags.DEFINE_config_file("config", None, "Path to a config file.", lock_config=True)
_WORKDIR = flags.DEFINE_string(
    "workdir", None, "The run's folder: checkpoints, tables, report.", required=True
)
_MODE = flags.DEFINE_enum("mode", "train", sorted(modes.MODES), "What to do; train ends with an evaluation.")
_SHARD = flags.DEFINE_string(
    "shard", "0/1", "Of a study: i/n makes every n-th run from the i-th on, i = 0, ..., n - 1."
)
_DISTRIBUTED = flags.DEFINE_bool(
    "distributed",
    False,
    "One of several processes of a run; SLURM, MPI, Kubernetes and Cloud TPUs are found.",
)
_COORDINATOR = flags.DEFINE_string(
    "coordinator", "", "Several processes elsewhere: host:port of the first one."
)
_PROCESSES = flags.DEFINE_integer("processes", 0, "With --coordinator: how many processes there are.")
_PROCESS = flags.DEFINE_integer("process", -1, "With --coordinator: which of them this is, from 0.")
flags.mark_flag_as_required("config")


@safe_text.terminal()
def main(argv: Sequence[str]) -> None:
    """Dispatches; what a person has to read is a sentence on stderr.

    Exit status 2 is for what a person has to correct, 1 for what broke.
    75 where the machine was wanted back and the same command goes on: schedulers requeue by it.
    """
    if len(argv) > 1:
        raise app.UsageError(f"unexpected arguments: {argv[1:]}")
    logging.set_verbosity(logging.ERROR)
    preemption.install()
    workdir = Path(_WORKDIR.value)
    try:
        if _MODE.value != "study" and flags.FLAGS["shard"].present:
            raise InputError(f"--shard deals the runs of --mode=study out; --mode={_MODE.value} has none")
        config_checks.check_ranges(_CONFIG.value)
        if _DISTRIBUTED.value or _COORDINATOR.value:
            _check_distributed()
            distributed.start(_COORDINATOR.value, _PROCESSES.value, _PROCESS.value)
        shard = {"shard": _SHARD.value} if _MODE.value == "study" else {}
        # What comes next, tables read and networks built, takes its time.
        path = config_flags.get_config_filename(flags.FLAGS["config"])
        print(f"--mode={_MODE.value}: {path} in {workdir}", flush=True)
        modes.MODES[_MODE.value](_CONFIG.value, workdir, **shard)
    except (InputError, NonFiniteLossError) as error:  # the same command would end as this one
        print(f"error: {error}", file=sys.stderr)
        distributed.leave(2, together=True)
    except preemption.Preempted:
        print(f"\nthe machine is wanted back; {_goes_on(workdir)}", file=sys.stderr)
        sys.exit(preemption.PREEMPTED)
    except KeyboardInterrupt:
        print(f"\nstopped; {_goes_on(workdir)}", file=sys.stderr)
        sys.exit(130)
    except Exception as error:
        if (told := io_errors.sentence(error) or distributed.lost(error)) is None:
            if not jax.distributed.is_initialized():
                raise
            traceback.print_exc()  # at its end Python would wait for processes that may be gone
            distributed.leave(1)
        if jax.distributed.is_initialized():
            traceback.print_exc()  # which process it was, and whether it was one, may be in it
        print(f"error: {told}; {_goes_on(workdir)}", file=sys.stderr, flush=True)
        distributed.leave(1)


def _goes_on(workdir: Path) -> str:
    resumes = _MODE.value in ("train", "study") and run_directory.goes_on(workdir)
    return "the same command " + ("goes on from the last checkpoint" if resumes else "starts again")


def _check_distributed() -> None:
    """Refuses what several hosts together cannot do: it writes from all of them."""
    if _MODE.value in ("study", "check"):
        raise InputError(
            f"--mode={_MODE.value} runs on one host; drop --distributed and --coordinator"
            + (" and deal its runs out by --shard=i/n" if _MODE.value == "study" else "")
        )
    if _CONFIG.value.data.folds and _CONFIG.value.data.fold == -1:
        raise InputError("data.folds: several hosts train one fold at a time; give --config.data.fold=k")


def parse_flags(argv: list[str]) -> list[str]:
    """Absl's parser; whatever is wrong with a flag, a field or the config file is one line."""
    if repeated := repeated_fields(argv):
        print(
            f"error: --{repeated[0]} is given more than once; give each field once, a tuple with all of its values",
            file=sys.stderr,
        )
        sys.exit(2)
    flags.FLAGS["config"].parser = config_file.Parser()
    try:
        return list(flags.FLAGS(argv))
    except AttributeError as error:
        text = str(error).replace("\\n", " ").replace("\\'", "'").strip("\"'")
        message = f"the config has no field '{text}"
    except (flags.Error, TypeError, ValueError) as error:
        # Absl puts the flag with its whole value before what a config file's own error says.
        message = str(error.__context__ if isinstance(error.__context__, InputError) else error)
    print(f"error: {safe_text.printable(' '.join(message.split()))}", file=sys.stderr)
    sys.exit(2)


def repeated_fields(argv: Sequence[str]) -> list[str]:
    """The config's fields that several flags set: ml_collections would append a tuple to the one before it."""
    given = list(argv[: argv.index("--")]) if "--" in argv else argv
    flag = re.compile(r"--?(?:no)?(config\.[^=]+)(?:=.*)?", re.DOTALL)
    counts = Counter(match[1] for word in given if (match := flag.fullmatch(word)))
    return [field for field, count in counts.items() if count > 1]


if __name__ == "__main__":
    jax.config.config_with_absl()
    app.run(main, flags_parser=parse_flags)
