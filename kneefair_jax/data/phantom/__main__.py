"""`python -m kneefair_jax.data.phantom --out gallery.png` draws phantoms by grade, switch and strength."""

import sys

from kneefair_jax.runtime import command

main = command.entry(
    "kneefair_jax.data.phantom.gallery",
    command.Remedies(
        option="--out",
        memory="give a smaller --size",
        resume=lambda: "the same command starts again",
    ),
)

if __name__ == "__main__":
    command.exit_process(main(sys.argv[1:]))
