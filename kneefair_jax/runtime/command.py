"""How a command ends: with one line and an exit status where a person or a scheduler has to act, else a traceback.

| status | cause |
|---|---|
| 0 | the work is done |
| 1 | a full or failing disk, too little memory, another process that ended; some files failed |
| 2 | bad input |
| 75 | SIGTERM or SIGUSR1: the same command resumes |
| 130 | Ctrl-C |
| 141 | the program that reads the output has ended, as `head` does |

Importing this module imports neither JAX nor NumPy: a command calls `run` first, so that a signal during its imports
ends in a line too.
"""

import atexit
import contextlib
import importlib
import os
import resource
import select
import signal
import sys
from collections.abc import Callable
from types import FrameType
from typing import NamedTuple, NoReturn, TextIO

from kneefair_jax import safe_text
from kneefair_jax.errors import InputError
from kneefair_jax.runtime import command_line, io_errors, preemption

FAILED, BAD_INPUT, INTERRUPTED, CLOSED_PIPE = 1, 2, 128 + signal.SIGINT, 128 + signal.SIGPIPE
_MEMORY = (
    "std::bad_alloc",
    "bad allocation",
    "Cannot allocate memory",
    "failed to map segment",
    "out of memory",
)


class CommandError(RuntimeError):
    """The command cannot continue, and the same command may succeed: a line without a traceback, status 1."""


class Remedies(NamedTuple):
    """What the line of an ending advises.

    Attributes:
        option: the flag of the output folder.
        memory: what to do if memory is exhausted, as an imperative.
        resume: returns what a second start of the same command does, as a clause that begins with "the same command".
    """

    option: str
    memory: str
    resume: Callable[[], str]


class _Ending(NamedTuple):
    line: str
    status: int


def run(body: Callable[[], int], remedies: Remedies) -> int:
    """Run a command, print what the package logs, report how the command ends, and return its exit status.

    Args:
        body: does the work and returns the status, or exits with one, as argparse and absl do.
        remedies: for the line of an ending.

    Raises:
        SystemExit: with a message in place of a status.
        Exception: a bug, whose traceback is of use.
    """
    _open_standard_streams()
    with preemption.handle_signals(), safe_text.printable_output(), command_line.log_to_terminal():
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
        # Outside of the block, where the exception's frames hold no memory any more.
        _report(ending.line)
        return ending.status


def _load_extensions() -> None:
    """Load JAX, a second or two, without a signal: its C++ would abort the process, or print a traceback."""
    with preemption.hold_signals(), contextlib.suppress(ImportError):
        importlib.import_module("jax")


def exit_process(status: int) -> NoReturn:
    """Exit; a signal during the interpreter's own end, when the work is over, changes neither status nor output.

    A second Ctrl-C ends it, should threads or exit functions hang.
    """
    signal.signal(signal.SIGINT, _ignore_once)
    for number in (signal.SIGTERM, signal.SIGUSR1):
        signal.signal(number, signal.SIG_IGN)
    # CPython remembers a KeyboardInterrupt that left `eval`, as of a named tuple, and would end as if SIGINT had killed
    # it, though the exception was handled; another `eval` makes it forget.
    eval("0")
    sys.exit(status)


def _ignore_once(number: int, frame: FrameType | None) -> None:
    signal.signal(number, signal.SIG_DFL)


@atexit.register
def _ignore_interrupts() -> None:
    """Ignore Ctrl-C once the exit functions of all libraries are done: Python then restores handlers in Python."""
    if signal.getsignal(signal.SIGINT) is _ignore_once:
        signal.signal(signal.SIGINT, signal.SIG_IGN)


def _ending_of(error: BaseException, remedies: Remedies) -> _Ending | None:
    """Return the line and the status of an ending; None of a bug."""
    if number := preemption.signal_of(error):
        stopped = number == signal.SIGINT
        return _Ending(
            f"{'interrupted' if stopped else 'preempted'}; {remedies.resume()}",
            INTERRUPTED if stopped else preemption.PREEMPTED,
        )
    if isinstance(error, InputError):
        return _Ending(f"error: {error}", BAD_INPUT)
    if isinstance(error, BrokenPipeError) and (_is_closed(sys.stdout) or _is_closed(sys.stderr)):
        return _Ending("", CLOSED_PIPE)
    if isinstance(error, CommandError):
        return _Ending(f"error: {error}; {remedies.resume()}", FAILED)
    if storage := io_errors.describe(error, remedies.option):
        return _Ending(f"error: {storage}; {remedies.resume()}", FAILED)
    if _is_memory(error):
        return _Ending(f"error: out of memory; {remedies.memory}; {remedies.resume()}", FAILED)
    return None


def _is_memory(error: BaseException) -> bool:
    """Return whether memory is exhausted: Python's error, C++'s or XLA's (XlaRuntimeError, JaxRuntimeError)."""
    text = str(error)
    if isinstance(
        error, SystemError
    ):  # C code failed without a reason; under a limit of memory, that is the reason
        limited = resource.getrlimit(resource.RLIMIT_AS)[0] != resource.RLIM_INFINITY
        return limited and "without exception set" in text
    return isinstance(error, MemoryError) or (
        isinstance(error, RuntimeError | OSError | ImportError)
        and (text.startswith("RESOURCE_EXHAUSTED") or any(words in text for words in _MEMORY))
    )


def _report(line: str) -> None:
    """Print a line on stderr after what is on stdout; streams that cannot be written stay silent to the very end."""
    for stream, text in ((sys.stdout, ""), (sys.stderr, line)):
        try:
            if text:
                print(text, file=stream)
            stream.flush()
        except (OSError, ValueError):
            with contextlib.suppress(OSError, ValueError):
                os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def _is_closed(stream: TextIO) -> bool:
    """Return whether nobody reads the pipe behind a stream any more."""
    try:
        poll = select.poll()
        poll.register(stream.fileno(), select.POLLOUT)
        return any(event & (select.POLLERR | select.POLLHUP) for _, event in poll.poll(0))
    except (OSError, ValueError):  # no file behind it
        return False


def _open_standard_streams() -> None:
    """Send closed standard streams to the null device; the next file that is opened would take their place."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:
            descriptor = os.open(os.devnull, os.O_RDWR)  # the lowest that is free, which is the closed one
            setattr(sys, name, os.fdopen(descriptor, "r" if number == 0 else "w", closefd=False))
