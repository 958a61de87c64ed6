"""A source that reading processes can import; one case takes a moment, some cannot be read."""

import multiprocessing
import os
import signal
import sys
import time
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd

from kneefair_jax.data.source import Example, Source
from kneefair_jax.errors import InputError

GRID = (5, 4, 2)


def example(row):
    rng = np.random.default_rng(row)
    return Example(
        rng.integers(0, 255, GRID).astype(np.uint8),
        rng.integers(0, 3, GRID[:2]).astype(np.uint8),
        np.array([0.5, row], np.float32),
    )


def read(broken, seconds, log, rows):
    for row in rows:
        time.sleep(seconds)
        if log:
            with Path(log).open("a") as file:
                file.write(f"{row} {os.getpid()}\n")
        yield InputError(f"t.csv row {row + 2}: {row}.png: torn; mend it") if row in broken else example(row)


def source(count=12, *, broken=(), seconds=0.0, log=None, **settings):
    """Every read row is a line of `log`, with the process that read it."""
    cases = pd.DataFrame({"case_id": [f"c{row}" for row in range(count)]})
    settings = {"kind": "test", "count": count, **settings}
    return Source(cases, ("a", "b"), settings, partial(read, broken, seconds, log), portable=True)


def reading_process(rows):
    for row in rows:
        heavy = sorted({"jax", "tensorflow_datasets", "flax"} & set(sys.modules))
        assert multiprocessing.parent_process() is not None and not heavy, heavy
        yield example(row)


def suicidal(rows):
    os.kill(os.getpid(), signal.SIGKILL)
    return iter(rows)
