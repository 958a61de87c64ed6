"""`python -m kneefair_jax.export RUN`: export a finished run's selected checkpoint as weights for `predict`."""

import sys
from collections.abc import Sequence

from kneefair_jax.runtime import command

REMEDIES = command.Remedies(
    option="--out",
    memory="close other programs",
    resume=lambda: "the same command starts again",
)


def main(argv: Sequence[str]) -> int:
    """Export a run and return 0, or the status of `runtime.command`."""
    return command.run(lambda: _main(argv), REMEDIES)


def _main(argv: Sequence[str]) -> int:
    # Imported late, so that a signal during the seconds that the imports take ends in one line.
    from kneefair_jax.export import cli

    return cli.main(argv)


if __name__ == "__main__":
    command.exit_process(main(sys.argv[1:]))
