"""The structures of reference masks where nobody names them: this takes a pass over the files of its own."""

import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from kneefair_jax import anatomy
from kneefair_jax.audit import label_map
from kneefair_jax.audit.cases import Cohort
from kneefair_jax.data import mask_files, metadata
from kneefair_jax.data.mask_files import MaskPath
from kneefair_jax.errors import InputError
from kneefair_jax.runtime import progress


def labels(cohort: Cohort, truth: Mapping[str, MaskPath], folder: Path) -> dict[str, tuple[int, ...]]:
    """Return structure -> values: DICOM-SEGs name their structures, those of other masks are called by their values.

    Raises:
        InputError: what is wrong with which files, by the row of the table.
    """

    def of(case: str) -> set[int] | list[str] | InputError:
        try:
            if names := mask_files.segment_names(truth[case]):
                return names
            return set(np.unique(mask_files.read(truth[case], {}).values).tolist())
        except InputError as error:
            return error

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        read = pool.map(of, cohort.frame["case_id"])
        results = list(progress.track(read, len(cohort.frame), "reading labels"))
    wrong = [
        (row, str(r)) for row, r in zip(cohort.frame.index, results, strict=True) if isinstance(r, InputError)
    ]
    metadata.refuse(cohort.path, wrong)
    values = set[int]().union(*(result for result in results if isinstance(result, set)))
    names = [name for result in results if isinstance(result, list) for name in result]
    if not names:
        return label_map.found(values, folder)
    if any(isinstance(result, set) for result in results):
        raise InputError(
            f"--truth {folder}: some masks are DICOM-SEG, whose segments have names, and some have values alone; name "
            "the structures with --labels, such as --labels femur=1 tibia=2"
        )
    if set(names) & anatomy.OVERLAPS.keys():  # segments that overlap in other files alone, `dicom_seg.read`
        names = [anatomy.class_beside(name) for name in names]
    return {name: (label,) for label, name in enumerate(_ordered(names), start=1)}


def _ordered(names: Sequence[str]) -> list[str]:
    """Each name once, in the order of a scheme that has them all, or else as they occur."""
    different = dict.fromkeys(names)
    scheme = next((scheme for scheme in anatomy.SCHEMES.values() if set(different) <= set(scheme)), different)
    return [name for name in scheme if name in different]
