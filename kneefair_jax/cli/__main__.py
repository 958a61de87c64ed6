"""`python -m kneefair_jax.cli`: the command `kneefair` without its script."""

from kneefair_jax.cli import main

if __name__ == "__main__":
    main.main()
