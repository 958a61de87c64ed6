"""The frame of every command: its flags, its messages on the terminal, and its exit status with one line of error.

| status | cause |
|---|---|
| 0 | the work is done |
| 1 | a full or failing disk, too little memory, a lost peer process; some files failed |
| 2 | bad input |
| 75 | preempted by SIGTERM or SIGUSR1: the same command resumes |
| 130 | Ctrl-C |
| 141 | the reader of the output has ended, as `head` does |

A bug ends with a traceback. This module imports neither JAX nor NumPy: a command calls `run` first, so that a signal
during its imports also ends with one line.
"""

import argparse
import atexit
import contextlib
import importlib
import logging
import os
import resource
import select
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from types import FrameType
from typing import NamedTuple, NoReturn, TextIO

from kneefair_jax import safe_text
from kneefair_jax.errors import InputError
from kneefair_jax.runtime import atomic, preemption
from kneefair_jax.runtime.schema import Integer, find_fault

SEED = Integer(0, 2**32 - 1)
MAX_DRAWS = 1_000_000  # resamples; at 10,000, Monte Carlo moves an interval's end by 1 % of its width

FAILED, BAD_INPUT, INTERRUPTED, CLOSED_PIPE = 1, 2, 128 + signal.SIGINT, 128 + signal.SIGPIPE
_MEMORY_ERRORS = (
    "std::bad_alloc",
    "bad allocation",
    "Cannot allocate memory",
    "failed to map segment",
    "out of memory",
)


class CommandError(RuntimeError):
    """The command cannot continue, but the same command may succeed later: one line, status 1."""


class Remedies(NamedTuple):
    """Remedies for the last line of a command.

    Attributes:
        option: the flag of the output folder.
        memory: the remedy for exhausted memory, as an imperative.
        resume: returns what the same command does next time, as a clause that begins with "the same command".
    """

    option: str
    memory: str
    resume: Callable[[], str]


class _Ending(NamedTuple):
    line: str
    status: int
    is_memory: bool = False


_memory_exhausted: list[bool] = []  # by `run`, for `exit_process`


def run(body: Callable[[], int], remedies: Remedies) -> int:
    """Run a command, print the package's log messages and the cause of a failure, and return the exit status.

    Args:
        body: does the work and returns the status, or exits with one, as argparse and absl do.
        remedies: for the last line.

    Raises:
        SystemExit: with a message in place of a status.
        Exception: a bug, whose traceback helps.
    """
    _memory_exhausted.clear()
    _open_standard_streams()
    with preemption.handle_signals(), safe_text.printable_output(), log_to_terminal():
        try:
            try:
                _load_extensions()
                status = body()
            except SystemExit as exit_:
                if not isinstance(exit_.code, int | None):
                    raise
                status = exit_.code or 0
            sys.stdout.flush()
        except (Exception, KeyboardInterrupt, preemption.Preempted) as error:
            preemption.stop_timer()
            ending = _ending_of(error, remedies)
            if ending is None:
                raise
        else:
            return status
        # Outside the block, where the exception's frames no longer hold memory.
        _report(ending.line)
        _memory_exhausted.append(ending.is_memory)
        return ending.status


def entry(module: str, remedies: Remedies) -> Callable[[Sequence[str]], int]:
    """Return a command that runs the function `main` of a module, and returns its status or that of `run`.

    The module is imported late, so that a signal during the seconds that its imports take ends in one line.
    """
    return lambda argv: run(lambda: int(importlib.import_module(module).main(argv)), remedies)


def _load_extensions() -> None:
    """Load JAX with signals held, for a second or two: its C++ code would abort the process or print a traceback."""
    with preemption.hold_signals(), contextlib.suppress(ImportError):
        importlib.import_module("jax")


def exit_process(status: int) -> NoReturn:
    """Exit; a signal during the interpreter's shutdown changes neither status nor output.

    A second Ctrl-C ends the process if threads or exit functions hang.
    """
    if any(_memory_exhausted):
        os._exit(status)  # exit functions of libraries would need memory; `run` has flushed the streams
    signal.signal(signal.SIGINT, _ignore_once)
    for number in (signal.SIGTERM, signal.SIGUSR1):
        signal.signal(number, signal.SIG_IGN)
    # After a KeyboardInterrupt within `eval`, as in the definition of a named tuple, CPython would exit as if killed by
    # SIGINT, although the exception was handled; another `eval` clears that state.
    eval("0")
    sys.exit(status)


def _ignore_once(number: int, frame: FrameType | None) -> None:
    signal.signal(number, signal.SIG_DFL)


@atexit.register
def _ignore_interrupts() -> None:
    """Ignore Ctrl-C after the exit functions of all libraries, when Python resets handlers that are functions."""
    if signal.getsignal(signal.SIGINT) is _ignore_once:
        signal.signal(signal.SIGINT, signal.SIG_IGN)


def _ending_of(error: BaseException, remedies: Remedies) -> _Ending | None:
    """Return the last line and the status for an exception; None for a bug."""
    if number := preemption.signal_of(error):
        if number == signal.SIGINT:
            return _Ending(f"interrupted; {remedies.resume()}", INTERRUPTED)
        return _Ending(f"preempted; {remedies.resume()}", preemption.PREEMPTED)
    if isinstance(error, InputError):
        return _Ending(f"error: {error}", BAD_INPUT)
    if isinstance(error, BrokenPipeError) and (_is_closed(sys.stdout) or _is_closed(sys.stderr)):
        return _Ending("", CLOSED_PIPE)
    if isinstance(error, CommandError):
        return _Ending(f"error: {error}; {remedies.resume()}", FAILED)
    if storage := atomic.describe_storage_error(error, remedies.option):
        return _Ending(f"error: {storage}; {remedies.resume()}", FAILED)
    if _is_memory_error(error):
        return _Ending(
            f"error: out of memory; {remedies.memory}; {remedies.resume()}", FAILED, is_memory=True
        )
    return None


def _is_memory_error(error: BaseException) -> bool:
    """Return whether memory is exhausted, by an error of Python, C++ or XLA (XlaRuntimeError, JaxRuntimeError)."""
    text = str(error)
    if isinstance(
        error, SystemError
    ):  # C code failed without a reason; under a limit of memory, that is the reason
        limited = resource.getrlimit(resource.RLIMIT_AS)[0] != resource.RLIM_INFINITY
        return limited and "without exception set" in text
    return isinstance(error, MemoryError) or (
        isinstance(error, RuntimeError | OSError | ImportError)
        and (text.startswith("RESOURCE_EXHAUSTED") or any(words in text for words in _MEMORY_ERRORS))
    )


def _report(line: str) -> None:
    """Flush stdout, then print a line on stderr; streams that cannot be written are silenced until the exit."""
    for stream, text in ((sys.stdout, ""), (sys.stderr, line)):
        try:
            if text:
                print(text, file=stream)
            stream.flush()
        except (OSError, ValueError):
            with contextlib.suppress(OSError, ValueError):
                os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def _is_closed(stream: TextIO) -> bool:
    """Return whether the pipe behind a stream has no reader any more."""
    try:
        poll = select.poll()
        poll.register(stream.fileno(), select.POLLOUT)
        return any(event & (select.POLLERR | select.POLLHUP) for _, event in poll.poll(0))
    except (OSError, ValueError):  # a stream without a file
        return False


def _open_standard_streams() -> None:
    """Redirect closed standard streams to the null device; otherwise the next opened file would take their place."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:
            descriptor = os.open(os.devnull, os.O_RDWR)  # the lowest free one, that of the closed stream
            setattr(sys, name, os.fdopen(descriptor, "r" if number == 0 else "w", closefd=False))


class Parser(argparse.ArgumentParser):
    """The standard parser with complete flags, an epilog as written, and one-line errors without the usage text."""

    def __init__(self, prog: str, description: str = "", epilog: str = ""):
        super().__init__(
            prog=prog,
            description=description,
            epilog=epilog,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )

    def error(self, message: str) -> NoReturn:
        """Print the error and exit with status 2."""
        print(f"error: {' '.join(message.split())}; see --help", file=sys.stderr)
        sys.exit(2)


def integer(low: int, high: int) -> Callable[[str], int]:
    """Return a converter of a flag's text to an integer from `low` to `high`, for `add_argument(type=...)`."""
    schema = Integer(low, high)

    def parse(text: str) -> int:
        try:
            value = int(text)
        except ValueError:  # not a number, or one of thousands of digits
            raise argparse.ArgumentTypeError(f"{text[:60]!r}: give {schema.expected}") from None
        if find_fault(value, schema):
            raise argparse.ArgumentTypeError(f"{text[:60]}: give {schema.expected}")
        return value

    return parse


class _TerminalHandler(logging.Handler):
    """Prints bare messages on the streams as they are at that moment: errors on stderr, all others on stdout.

    `logging.StreamHandler` would report a closed pipe as a traceback; here the error reaches `runtime.command`.
    """

    def emit(self, record: logging.LogRecord) -> None:
        stream = sys.stderr if record.levelno >= logging.ERROR else sys.stdout
        print(self.format(record), file=stream, flush=True)


@contextlib.contextmanager
def log_to_terminal() -> Iterator[None]:
    """Print the messages that this package logs within the block, from level INFO; `runtime.command.run` calls it.

    Other handlers, such as absl's, do not get these messages. A block within another one changes nothing.
    """
    logger = logging.getLogger("kneefair_jax")
    if any(isinstance(handler, _TerminalHandler) for handler in logger.handlers):
        yield
        return
    level, propagate, handler = logger.level, logger.propagate, _TerminalHandler()
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    logger.propagate = False
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)
        logger.propagate = propagate
