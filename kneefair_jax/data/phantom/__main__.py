"""`python -m kneefair_jax.data.phantom --out gallery.png` draws phantoms by grade, switch and strength."""

import sys
from collections.abc import Sequence

from kneefair_jax.runtime import command

REMEDIES = command.Remedies(
    option="--out",
    memory="give a smaller --size",
    resume=lambda: "the same command starts again",
)


def main(argv: Sequence[str]) -> int:
    """Draw phantoms and return 0, or the status of `runtime.command`."""
    return command.run(lambda: _main(argv), REMEDIES)


def _main(argv: Sequence[str]) -> int:
    # Imported late, so that a signal during the seconds that the imports take ends in one line.
    from kneefair_jax.data.phantom import gallery

    return gallery.main(argv)


if __name__ == "__main__":
    command.exit_process(main(sys.argv[1:]))
