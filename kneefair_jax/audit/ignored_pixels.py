"""How much the label `ignore` leaves out of the scores, by case and by predicted structure."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from kneefair_jax.report.text import formatting


class Ignored(NamedTuple):
    """What is left out of the scores of one model.

    Attributes:
        pixels: of all reference masks together.
        cases: that have any.
        largest_share: of one predicted structure's pixels, in [0, 1]; None where no predicted structure is affected.
        structure: which that is.
        case_id: in which case.
    """

    pixels: int
    cases: int
    largest_share: float | None = None
    structure: str | None = None
    case_id: str | None = None

    def as_dict(self) -> dict[str, Any]:
        """For `report.json`."""
        return self._asdict()


def of_model(
    case_ids: Sequence[str], pixels: Sequence[int], shares: np.ndarray, structures: Sequence[str]
) -> Ignored:
    """Sum the pixels up.

    Args:
        case_ids: of N cases.
        pixels: ignored in each reference mask.
        shares: f64[N, S], of each predicted structure; NaN where there is none of it.
        structures: names of the S structures.
    """
    counts = np.asarray(pixels)
    total, cases = int(counts.sum()), int(np.count_nonzero(counts))
    filled = np.nan_to_num(shares)
    row, column = np.unravel_index(int(np.argmax(filled)), filled.shape)
    if filled[row, column] == 0:
        return Ignored(total, cases)
    return Ignored(total, cases, float(filled[row, column]), structures[int(column)], case_ids[int(row)])


def note(ignored: Ignored, several: int, of: str) -> str:
    """What is said of it among the notes.

    Args:
        ignored: of one model.
        several: how many cases there are.
        of: whose predictions, such as ` by unet`.
    """
    if not ignored.cases:
        return "no reference mask holds a value that --labels calls ignore"
    amount = formatting.amount(ignored.pixels, "pixel")
    text = f"ignored pixels are left out of every score: {amount} in {ignored.cases} of {several} cases"
    if ignored.largest_share is None:
        return f"{text}; no structure of the predictions{of} has any"
    return (
        f"{text}, at most {100 * ignored.largest_share:.1f} % of a structure of the predictions{of} "
        f"({ignored.structure} of case {ignored.case_id})"
    )
