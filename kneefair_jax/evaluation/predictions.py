"""The predicted label maps of a run's test cases: a file of arrays that is written and read case by case.

The maps of a large cohort do not fit in memory together.
"""

import contextlib
import zipfile
from collections.abc import Callable, Collection, Iterable, Iterator
from pathlib import Path

import numpy as np

from kneefair_jax.runtime import atomic

FILE = "predictions.npz"

# `(case_ids, maps)`: writes the label maps u8[N, H, W] of N cases.
Write = Callable[[Iterable[str], Iterable[np.ndarray]], None]


@contextlib.contextmanager
def writer(workdir: Path) -> Iterator[Write]:
    """Yield a function that writes label maps to a new file, which replaces the run's if the block succeeds.

    The file is the one of `numpy.savez_compressed` with an array for each case id.

    Args:
        workdir: the run directory.
    """
    with (
        atomic.replacement(workdir / FILE) as path,
        zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive,
    ):

        def write(case_ids: Iterable[str], maps: Iterable[np.ndarray]) -> None:
            for case_id, label_map in zip(case_ids, maps, strict=True):
                with archive.open(f"{case_id}.npy", "w", force_zip64=True) as stream:
                    np.lib.format.write_array(stream, np.ascontiguousarray(label_map), allow_pickle=False)

        yield write


def read(workdir: Path, case_ids: Collection[str]) -> dict[str, np.ndarray]:
    """Return the label maps u8[H, W] of some cases by case id.

    Args:
        workdir: the run directory.
        case_ids: of the cases; the file has all of them.
    """
    with np.load(workdir / FILE, allow_pickle=False) as file:
        return {case_id: file[case_id] for case_id in case_ids}
