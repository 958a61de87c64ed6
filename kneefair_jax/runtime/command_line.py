"""A command line whose faults are one line, and whose numbers have ranges."""

import argparse
import sys
from collections.abc import Callable
from typing import NoReturn

from kneefair_jax.runtime.schema import Whole, find_fault

SEED = Whole(0, 2**32 - 1)
DRAWS_MOST = 1_000_000  # resamples; at 10,000, Monte Carlo moves an interval's end by 1 % of its width


class Parser(argparse.ArgumentParser):
    """The standard parser; a fault is one line, as those that the commands find, without the usage before it."""

    def error(self, message: str) -> NoReturn:
        """Print the line and exit with status 2."""
        print(f"error: {' '.join(message.split())}; see --help", file=sys.stderr)
        sys.exit(2)


def whole(low: int, high: int) -> Callable[[str], int]:
    """Return what makes a flag's text a whole number from `low` to `high`, for `add_argument(type=...)`."""
    schema = Whole(low, high)

    def parse(text: str) -> int:
        try:
            value = int(text)
        except ValueError:  # no number, or one of thousands of digits
            raise argparse.ArgumentTypeError(f"{text[:60]!r}: give {schema.wanted}") from None
        if find_fault(value, schema):
            raise argparse.ArgumentTypeError(f"{text[:60]}: give {schema.wanted}")
        return value

    return parse
