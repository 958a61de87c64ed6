"""Train, evaluate, check or study by a config: the code of `launch.py` and of four sub-commands of `kneefair`."""

import copy
import difflib
import re
import sys
import traceback
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn, cast

from absl import app, flags, logging
from ml_collections import config_flags

from kneefair_jax import safe_text
from kneefair_jax.cli import run_help
from kneefair_jax.errors import InputError
from kneefair_jax.runtime import atomic, command

# Prefixes of the flags of the libraries that a run imports.
_LIBRARIES = ("jax", "xla", "grain_", "tf_", "tfds_", "array_record_", "experimental_orbax_", "chex_")
MODES = ("check", "evaluate", "study", "train")


def define_flags(argv: Sequence[str], mode: str = "train") -> None:
    """Define the flags of a run.

    Args:
        argv: the command line, whose `--config.FIELD` flags ml_collections defines once the config is loaded.
        mode: the default of `--mode`.
    """
    config_flags.DEFINE_config_file(
        "config", None, "A config file, or the name of a shipped one.", lock_config=True, sys_argv=list(argv)
    )
    flags.DEFINE_string("workdir", None, "The run's folder: checkpoints, tables, report.", required=True)
    flags.DEFINE_enum("mode", mode, MODES, "What to do; train ends with an evaluation.")
    flags.DEFINE_string(
        "shard", "0/1", "Of a study: i/n trains every n-th run from the i-th on, i = 0, ..., n - 1."
    )
    flags.DEFINE_bool(
        "distributed",
        False,
        "One of several processes of a run; SLURM, MPI, Kubernetes and Cloud TPUs are detected.",
    )
    flags.DEFINE_string(
        "coordinator", "", "Of several processes on other clusters: host:port of the first one."
    )
    flags.DEFINE_integer("processes", 0, "With --coordinator: the number of processes.")
    flags.DEFINE_integer("process", -1, "With --coordinator: the number of this process, from 0.")
    flags.DEFINE_bool(
        "dry-run", False, "Show cohort, splits, groups and steps; train nothing, and write nothing."
    )
    flags.DEFINE_bool("time", False, "With --dry-run: also compile and time a few steps, for an estimate.")
    flags.DEFINE_bool("overwrite", False, "With --mode=check: replace the result of an earlier check.")
    flags.DEFINE_bool(
        "pdf",
        False,
        "Also print report/summary.pdf, one or two pages, by Chromium or WeasyPrint; else delete an earlier one.",
    )
    flags.mark_flag_as_required("config")


def start(argv: Sequence[str], mode: str = "train") -> NoReturn:
    """Run the command of `launch.py`, and of `kneefair train`, `evaluate`, `check` and `study`, and exit.

    Args:
        argv: the program and its flags.
        mode: the default of `--mode`.
    """
    if {"--help", "-help", "-h"} & set(argv[1:]):
        sys.stdout.write(run_help.text(Path(argv[0]).name, mode))
        sys.exit(0)
    try:
        argv = with_run_folder(argv, mode)
    except InputError as error:
        raise _refusal(str(error)) from None
    define_flags(argv, mode)
    app.define_help_flags()
    # Before `command.run`, which loads JAX.
    check_names(argv)
    command.exit_process(command.run(lambda: _start(argv), REMEDIES))


def check_names(argv: Sequence[str]) -> None:
    """Check the names of flags, config fields and the config, and the values of a run's flags, before JAX is loaded.

    Args:
        argv: the command line; the flags of a run are defined (`define_flags`).

    Raises:
        SystemExit: a flag does not exist, is missing or has a wrong value, a field is given twice, has moved or does
            not exist, or there is no such config; stderr gets one line, with the nearest name for a misspelled one.
    """
    fields = _config_fields(argv)
    message = (
        _unusable_field(fields)
        or run_help.misspelled_field(fields)
        or unknown_flag(argv)
        or _unknown_config(argv)
        or _unusable_flag(argv)
    )
    if message:
        raise _refusal(message)


def with_run_folder(argv: Sequence[str], mode: str) -> list[str]:
    """Return the command line with the flags that a run's folder as first argument of `kneefair evaluate` stands for.

    Raises:
        InputError: the folder holds no run.
    """
    if mode != "evaluate" or len(argv) < 2 or argv[1].startswith("-"):
        return list(argv)
    run = Path(argv[1])
    if not (run / "config.json").is_file():
        raise InputError(f"{run}: there is no config.json; give the folder of a run")
    return [argv[0], f"--config={run / 'config.json'}", f"--workdir={run}", *argv[2:]]


def main(argv: Sequence[str]) -> None:
    """Run the mode and exit with the status of `runtime.command`; schedulers restart the command at status 75."""
    if len(argv) > 1:
        raise app.UsageError(f"unexpected arguments: {argv[1:]}")
    status = command.run(lambda: _run(Path(flags.FLAGS.workdir)), REMEDIES)
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
        if flags.FLAGS.mode != "study" and flags.FLAGS["shard"].present:
            raise InputError(
                f"--shard distributes the runs of --mode=study; drop it with --mode={flags.FLAGS.mode}"
            )
        config_checks.validate_config(flags.FLAGS.config)
        if flags.FLAGS.distributed or flags.FLAGS.coordinator:
            _check_distributed()
            distributed.start(flags.FLAGS.coordinator, flags.FLAGS.processes, flags.FLAGS.process)
        options = {}
        if flags.FLAGS.mode == "study":
            options["shard"] = flags.FLAGS.shard
        if flags.FLAGS.mode == "check":
            options["overwrite"] = flags.FLAGS.overwrite
        if flags.FLAGS["dry-run"].value:
            from kneefair_jax.cli import dry_run

            timed = bool(flags.FLAGS["time"].value)
            dry_run.show(flags.FLAGS.mode, flags.FLAGS.config, workdir, flags.FLAGS.shard, timed=timed)
            return 0
        if flags.FLAGS["time"].value:
            raise InputError("--time estimates the time of a --dry-run; add --dry-run, or drop --time")
        if flags.FLAGS.pdf:
            _check_pdf()
        # Before the seconds in which tables are read and networks built.
        path = config_flags.get_config_filename(flags.FLAGS["config"])
        print(f"--mode={flags.FLAGS.mode}: {path} in {workdir}", flush=True)
        result = modes.MODES[flags.FLAGS.mode](flags.FLAGS.config, workdir, **options)
        if flags.FLAGS.mode in ("train", "evaluate") and distributed.is_primary():
            if result:
                _print_scores(workdir)
            _print_summary(workdir, with_pdf=flags.FLAGS.pdf)
        if flags.FLAGS.mode == "check":
            task = "study" if "study" in flags.FLAGS.config else "train"
            print(f"next:\n  {next_command(sys.argv, task)}", flush=True)
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


def next_command(argv: Sequence[str], task: str) -> str:
    """Return the command that trains on the cohort of a check, with the check's flags.

    Args:
        argv: the command line of the check, by `kneefair check` or by `launch.py --mode=check`.
        task: `train` or `study`.
    """
    from kneefair_jax.runtime import run_directory

    dropped = {f"{dash}{name}" for dash in ("-", "--") for name in ("mode", "overwrite", "nooverwrite")}
    words, is_mode = ["kneefair", task], False
    for word in argv[2:] if argv[1] == "check" else argv[1:]:
        name, equals, _ = word.partition("=")
        if not is_mode and name not in dropped:
            words.append(word)
        is_mode = not is_mode and name in ("-mode", "--mode") and not equals
    return run_directory.quote(words)


def _resume() -> str:
    if not flags.FLAGS.is_parsed():
        return "the same command starts again"
    # Not by `run_directory`, whose imports may be what was interrupted.
    checkpoints = Path(flags.FLAGS.workdir).glob("**/checkpoints/*")
    resumes = flags.FLAGS.mode in ("train", "study") and any(path.name.isdigit() for path in checkpoints)
    return "the same command " + ("resumes from the last checkpoint" if resumes else "starts again")


REMEDIES = command.Remedies(
    option="--workdir",
    memory="give a smaller --config.train.batch_size or --config.data.size",
    resume=_resume,
)


def _check_pdf() -> None:
    """Refuse `--pdf` where no page of a run is written, or nothing can print it."""
    from kneefair_jax.report import pdf

    if flags.FLAGS.mode in ("study", "check"):
        raise InputError(f"--pdf prints the page of one run; drop it with --mode={flags.FLAGS.mode}")
    if flags.FLAGS.config.data.folds and flags.FLAGS.config.data.fold != -1:
        raise InputError("--pdf prints the report over all folds; drop it, or give --config.data.fold=-1")
    pdf.require_printer()


def _print_scores(workdir: Path) -> None:
    """Print the main scores of a run's report, and its page."""
    from kneefair_jax.report import page
    from kneefair_jax.report.schema import Report
    from kneefair_jax.report.text import terminal
    from kneefair_jax.runtime import run_files

    path = workdir / "report" / page.REPORT
    report = cast(Report, run_files.read_report(path))
    lines = [
        "",
        terminal.scores(report),
        "",
        *terminal.verdicts({"": report}),
        f"page: {path.with_name(page.PAGE)}",
    ]
    print("\n".join(lines), flush=True)


def _print_summary(workdir: Path, *, with_pdf: bool) -> None:
    """Print the first screen of a run's page as `report/summary.pdf`, or delete that of an earlier page."""
    from kneefair_jax.report import page, pdf
    from kneefair_jax.runtime import run_files

    target = workdir / "report" / pdf.FILE
    if with_pdf:
        report = run_files.read_report(target.with_name(page.REPORT))
        pdf.write(target, page.summary_page(page.plain(report)))
        print(f"summary: {target}", flush=True)
    elif target.exists():
        target.unlink(missing_ok=True)
        print(f"deleted {target}, which showed an earlier report; add --pdf to print it again", flush=True)


def _check_distributed() -> None:
    """Refuse modes and folds that several hosts cannot run together, because all hosts would write."""
    if flags.FLAGS.mode in ("study", "check"):
        raise InputError(
            f"--mode={flags.FLAGS.mode} runs on one host; drop --distributed and --coordinator"
            + (" and distribute its runs with --shard=i/n" if flags.FLAGS.mode == "study" else "")
        )
    if flags.FLAGS.config.data.folds and flags.FLAGS.config.data.fold == -1:
        raise InputError("data.folds: several hosts train one fold at a time; give --config.data.fold=k")


def parse_flags(argv: list[str]) -> list[str]:
    """Parse the flags with absl; an error in a flag, a field or the config file becomes one line."""
    from kneefair_jax.runs import config_file, modes  # noqa: F401 - the libraries of modes define flags

    flags.FLAGS["config"].parser = parser = config_file.Parser()
    try:
        return list(flags.FLAGS(argv))
    except (AttributeError, KeyError, flags.Error, TypeError, ValueError) as error:
        raise _refusal(parser.describe_error(error, _config_fields(argv))) from None


def _refusal(message: str) -> SystemExit:
    """Print an error in one line, and return the exit with its status."""
    print(f"error: {safe_text.printable(' '.join(message.split()))}", file=sys.stderr)
    return SystemExit(2)


def unknown_flag(argv: Sequence[str]) -> str:
    """Return the error of the first flag that neither this program nor a library has; "" where there is none.

    The flags of libraries are defined once these are imported, so they are known by their prefixes.
    """
    words = _words(argv)
    flag = re.compile(r"(--?)([A-Za-z][\w.-]*)(?:=|$)")
    names = [
        match[2]
        for previous, word in zip(["", *words], words, strict=False)
        if (match := flag.match(word))
        # A word with one dash may be the value of the flag before it.
        and not (match[1] == "-" and flag.fullmatch(previous))
        and not match[2].removeprefix("no").startswith("config.")
    ]
    defined = {*flags.FLAGS, "undefok", "flagfile"}
    for name in names:
        if "undefok" in names or {name, name.removeprefix("no")} & defined or name.startswith(_LIBRARIES):
            continue
        near = [f"config.{name}"] if "." in name else difflib.get_close_matches(name, defined, 1)
        remedy = f"did you mean --{near[0]}?" if near else "--help lists the flags"
        return f"there is no flag --{name}; {remedy}"
    return ""


def _unknown_config(argv: Sequence[str]) -> str:
    """Return the error of a config's name that stands for no file and no shipped config; "" where there is none."""
    from kneefair_jax.runs import config_file

    words = _words(argv)
    for word, following in zip(words, [*words[1:], ""], strict=True):
        name, equals, value = word.partition("=")
        if name in ("-config", "--config"):
            try:
                config_file.require(value if equals else following)
            except InputError as error:
                return str(error)
    return ""


def _unusable_flag(argv: Sequence[str]) -> str:
    """Return the error of a flag of the run that is missing or has a wrong value; "" where there is none."""
    if any(word.startswith(("-help", "--help")) for word in _words(argv)):
        return ""
    values = flags.FlagValues()
    values.set_gnu_getopt()  # the value of an unknown flag may be a word of its own
    required = {"config": "CONFIG", "workdir": "DIR"}
    for name in required:
        flags.DEFINE_string(name, None, "", flag_values=values)
    for flag in flags.FLAGS.get_flags_for_module(__name__):
        if flag.name.partition(".")[0] not in required:
            values[flag.name] = copy.deepcopy(flag)
    try:
        values(argv, known_only=True)
    except flags.Error as error:
        return str(error)
    missing = [f"--{name}={metavar}" for name, metavar in required.items() if values[name].value is None]
    return f"{' and '.join(missing)}: missing; --help shows examples" if missing else ""


def _unusable_field(fields: Sequence[str]) -> str:
    """Return the error of a config field that is given twice or has moved; empty where there is none."""
    from kneefair_jax.runtime import run_files

    for field, count in Counter(fields).items():
        if new := run_files.new_name(field.removeprefix("config.")):
            return f"--{field}: this field is now config.{new}; give --config.{new}"
        if count > 1:
            return f"--{field} is given more than once; give each field once, a tuple with all of its values"
    return ""


def _config_fields(argv: Sequence[str]) -> list[str]:
    """Return the config's field of each flag that sets one; ml_collections appends a repeated tuple to the first."""
    flag = re.compile(r"--?(?:no)?(config\.[^=]+)(?:=.*)?", re.DOTALL)
    return [match[1] for word in _words(argv) if (match := flag.fullmatch(word))]


def _words(argv: Sequence[str]) -> list[str]:
    """Return the words that may be flags: those before `--`."""
    return list(argv[: argv.index("--")] if "--" in argv else argv)


def _start(argv: Sequence[str]) -> NoReturn:
    """Read the flags and the config, then run `main`."""
    import jax

    jax.config.config_with_absl()
    app.run(main, argv=list(argv), flags_parser=parse_flags)
    raise AssertionError("app.run exits")
