"""Shares of batches in whole cases: a share of 2.4 in 8 is 2 in some batches and 3 in others. In which?"""

from collections.abc import Sequence
from functools import cmp_to_key
from math import gcd

import numpy as np


def prefix_counts(shares: Sequence[int], batch_size: int) -> np.ndarray:
    """How many cases of each group the first t batches hold, to the end of the period after which it repeats.

    With s_g = shares[g] / sum(shares) and batches of B, every batch holds floor or ceil of B s_g cases of group g, and
    so do the first t batches together of t B s_g, for every t. At the end of the period, the smallest T for which all
    T B s_g can be whole, nothing is left over.

    The cases beyond floor(B s_g) are unit jobs of G tasks of rate < 1 on as many processors as a batch has places
    left, to be kept within one of their due at all times: fair scheduling, which the PF order of Baruah, Cohen,
    Plaxton and Varvel (Proportionate progress, Algorithmica 1996) always achieves. The obvious rule, a place to
    whoever is furthest behind, now and then misses by more than one (from five groups on).

    Args:
        shares: G positive whole numbers.
        batch_size: B.

    Returns:
        i64[T + 1, G], the first row 0.
    """
    total = sum(shares)
    period = total // gcd(total, batch_size)
    whole, rest = np.divmod(np.multiply(shares, batch_size), total)
    places = batch_size - int(whole.sum())
    due = [int(r) for r in rest]  # of `total`, in each batch
    extra = [0] * len(shares)

    def order(g: int, h: int) -> int:
        """PF: the earlier deadline first; of equal ones that which overlaps the next job's time, and so on."""
        i, j = extra[g] + 1, extra[h] + 1
        while (due[g], i) != (due[h], j):
            (end_g, over_g), (end_h, over_h) = _deadline(i, due[g], total), _deadline(j, due[h], total)
            if end_g != end_h:
                return end_g - end_h
            if not (over_g and over_h):
                return over_h - over_g
            i, j = i + 1, j + 1
        return 0

    rows = [[0] * len(shares)]
    for batch in range(period):
        released = [g for g in range(len(shares)) if extra[g] * total < (batch + 1) * due[g]]
        for g in sorted(released, key=cmp_to_key(order))[:places]:
            extra[g] += 1
        rows.append([(batch + 1) * int(w) + e for w, e in zip(whole, extra, strict=True)])
    return np.array(rows)


def _deadline(job: int, due: int, total: int) -> tuple[int, bool]:
    """The batch by whose end a job must be done, and whether the time of the next job has begun before it."""
    batches, rest = divmod(job * total, due)
    return batches + (rest > 0), rest > 0
