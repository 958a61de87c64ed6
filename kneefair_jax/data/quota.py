"""Shares of batches in whole cases: a share of 2.4 in 8 is 2 in some batches and 3 in others. In which?"""

from collections.abc import Sequence
from math import gcd

import numpy as np


def prefix_counts(shares: Sequence[int], batch_size: int) -> np.ndarray:
    """How many cases of each group the first t batches hold, to the end of the period after which it repeats.

    With s_g = shares[g] / sum(shares) and batches of B, every batch holds floor or ceil of B s_g cases of group g, and
    so do the first t batches together of t B s_g, for every t. At the end of the period, the smallest T for which all
    T B s_g can be whole, nothing is left over.

    The cases beyond floor(B s_g) are unit jobs of G tasks of rate < 1 on as many processors as a batch has places
    left, to be kept within one of their due at all times: proportionate fairness (Baruah, Cohen, Plaxton and Varvel,
    Algorithmica 1996), which the order PD2 always achieves (Anderson and Srinivasan, Journal of Computer and System
    Sciences 2004). The obvious rule, a place to whoever is furthest behind, now and then misses by more than one (from
    five groups on).

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

    urgency = [_urgency(1, rate, total) for rate in due]
    rows = [[0] * len(shares)]
    for batch in range(1, period + 1):
        released = [g for g, rate in enumerate(due) if extra[g] * total < batch * rate]
        for g in sorted(released, key=urgency.__getitem__)[:places]:
            extra[g] += 1
            urgency[g] = _urgency(extra[g] + 1, due[g], total)
        rows.append([batch * int(w) + e for w, e in zip(whole, extra, strict=True)])
    return np.array(rows)


def _urgency(job: int, due: int, total: int) -> tuple[int, int, int]:
    """PD2's place of a task's job, the least first; `due / total` is the task's rate.

    The earlier deadline comes first: the batch by whose end the job must be done. Of equal ones, that first which
    overlaps the next job's time; of such, a task of rate 1/2 or more by its group deadline, the latest first: until
    then, each job that is done at its deadline leaves the next one a single batch.
    """
    if not due:
        return 0, 0, 0  # never released
    deadline = -(-job * total // due)
    if not job * total % due:
        return deadline, 0, 0
    idle = total - due
    group_deadline = -(-total * -(-deadline * idle // total) // idle) if 2 * due >= total else 0
    return deadline, -1, -group_deadline
