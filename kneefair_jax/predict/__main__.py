"""`python -m kneefair_jax.predict`: segment radiographs from the command line."""

import sys
from collections.abc import Sequence

from kneefair_jax.runtime import command

REMEDIES = command.Remedies(
    option="--out",
    memory="give a smaller --batch-size",
    resume=lambda: "finished files are kept; the same command segments the rest",
)


def main(argv: Sequence[str]) -> int:
    """Segment radiographs and return the exit status that `--help` describes."""
    return command.run(lambda: _main(argv), REMEDIES)


def _main(argv: Sequence[str]) -> int:
    # Imported late, so that a signal during the seconds that the imports take ends in one line.
    from kneefair_jax.predict import cli

    return cli.main(argv)


if __name__ == "__main__":
    command.exit_process(main(sys.argv[1:]))
