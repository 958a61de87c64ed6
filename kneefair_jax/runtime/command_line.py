"""The command line of every command: one-line errors, numbers with ranges, and log messages on the terminal."""

import argparse
import contextlib
import logging
import sys
from collections.abc import Callable, Iterator
from typing import NoReturn

from kneefair_jax.runtime.schema import Integer, find_fault

SEED = Integer(0, 2**32 - 1)
MAX_DRAWS = 1_000_000  # resamples; at 10,000, Monte Carlo moves an interval's end by 1 % of its width


class Parser(argparse.ArgumentParser):
    """The standard parser, with one-line errors without the usage text, like the commands' other errors."""

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
