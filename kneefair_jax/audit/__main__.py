"""`python -m kneefair_jax.audit`: the audit from the command line."""

import sys

from kneefair_jax.runtime import command

main = command.entry(
    "kneefair_jax.audit.cli",
    command.Remedies(
        option="--out",
        memory="give smaller masks or fewer --draws",
        resume=lambda: "results are written at the end; the same command starts again",
    ),
)

if __name__ == "__main__":
    command.exit_process(main(sys.argv[1:]))
