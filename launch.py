"""Run kneefair_jax: `python launch.py --config=configs/quickstart.py --workdir=runs/quickstart`.

`kneefair train`, `evaluate`, `check` and `study` run the same code.
"""

import sys

from kneefair_jax.cli import launch

if __name__ == "__main__":
    launch.start(sys.argv)
