"""The label map of masks that number their structures 1, 2, ..., for cohorts that do not name them."""

from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from kneefair_jax.data import inspection, label_map, mask_files
from kneefair_jax.data.label_map import CohortLabels
from kneefair_jax.data.mask_files import MaskPath
from kneefair_jax.errors import InputError

_THREADS = 4
_MOST_VALUES = 12  # in a message


def read(masks: Sequence[MaskPath], ignore: int, prefix: str, table: Path) -> CohortLabels:
    """Return the label map of `structure 1`, ... up to the highest value in the masks.

    Args:
        masks: the files of all cases; an unreadable one is skipped if another is readable.
        ignore: the value of void pixels; -1 for none.
        prefix: of the settings, `data.` or `data.external_`.
        table: the cohort's table, for the message.

    Raises:
        InputError: the highest value is 0, or too high for the number of a structure; or no mask is readable.
    """

    def highest_value(mask: MaskPath) -> int | InputError:
        try:
            values = mask_files.read(mask, {}).values
        except InputError as error:
            return error  # `Source.read` reports it, if other masks are readable
        return int(values[values != ignore].max(initial=0))

    with ThreadPoolExecutor(_THREADS) as pool:
        results = list(pool.map(highest_value, masks))
    readable = [(mask, value) for mask, value in zip(masks, results, strict=True) if isinstance(value, int)]
    highest = max((value for _, value in readable), default=0)
    if errors := [result for result in results if isinstance(result, InputError) and not highest]:
        raise errors[0]
    if highest < 1:
        raise InputError(
            f"{table}: the highest label in the masks is 0, so all masks are empty; export the structures with the "
            "values 1, 2, ..."
        )
    if highest > label_map.MAX_UNNAMED:
        first = next(mask for mask, value in readable if value == highest)
        raise InputError(f"{table}: {_describe([mask for mask, _ in readable], ignore, first, prefix)}")
    return label_map.numbered(
        [f"structure {value}" for value in range(1, highest + 1)], ignore, prefix
    ).checked()


def _describe(masks: Sequence[MaskPath], ignore: int, first: MaskPath, prefix: str) -> str:
    """Return what is wrong with a value that is too high for the number of a structure, and the flag to give.

    Args:
        masks: the readable ones.
        ignore: the value of void pixels.
        first: the first mask with the highest value.
        prefix: of the settings.
    """
    counts: Counter[int] = Counter()
    for mask in masks:
        counts.update(np.unique(mask_files.read(mask, {}).values).tolist())
    values = sorted(set(counts) - {0, ignore})
    *lower, highest = values
    if len(values) > _MOST_VALUES:
        return (
            f"the highest label in the masks is {highest} (first in {first}), and {len(values)} values occur besides "
            f"0, as after interpolation or in gray scales; {inspection.EXPORT_LABELS}"
        )
    listed = ", ".join(f"{value} in {counts[value]}" for value in values)
    text = (
        f"the highest label in the masks is {highest} (first in {first}); values by number of masks: {listed}"
    )
    void = f"--config.{prefix}ignore_label={highest}"
    names = [*(f"structure{value}={value}" for value in lower), f"NAME={highest}"]
    structures = f"--config.{prefix}structures={','.join(names)}"
    if lower and lower == list(range(1, len(lower) + 1)):
        return (
            f"{text}; all others are consecutive, so {highest} probably marks unlabeled (void) pixels: give {void}; if "
            f"it is a structure, give {structures}"
        )
    return f"{text}; name the structures with {structures}; if the pixels of {highest} are unlabeled, give {void}"
