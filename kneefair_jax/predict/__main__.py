"""`python -m kneefair_jax.predict`: segment radiographs from the command line."""

import sys

from kneefair_jax.runtime import command

REMEDIES = command.Remedies(
    option="--out",
    memory="give a smaller --batch-size",
    resume=lambda: "finished files are kept; the same command segments the rest",
)
main = command.entry("kneefair_jax.predict.cli", REMEDIES)

if __name__ == "__main__":
    command.exit_process(main(sys.argv[1:]))
