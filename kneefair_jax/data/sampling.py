"""Samplers: the order in which a run takes its training cases.

A sampler is a function of the training cases, their groups, the size of the global batch and a seed. It returns an
endless dataset of rows of the cohort table whose k-th element is a function of those and of k. Samplers have no state:
a run resumes at a step by its number, and each of H hosts reads every H-th element.

| sampler | a batch | cases of unknown group |
|---|---|---|
| `shuffled` | a random sample | included |
| `proportional` | the training proportions, to a whole number | a group of their own |
| `undersampled` | a random sample of equally many patients a group | excluded |
| `oversampled` | each group with the same probability | excluded |
| `equal_share` | equally many of each group | excluded |
"""

import sys
from collections.abc import Callable, Sequence
from functools import lru_cache
from math import gcd

import grain
import numpy as np

from kneefair_jax.errors import InputError
from kneefair_jax.groups import UNKNOWN, Partition

# (rows i[N], partition and patient of every row of the cohort table, size of the global batch, seed) -> rows
Sampler = Callable[[np.ndarray, Partition, np.ndarray, int, int], grain.MapDataset]

# With these, a group objective that weights groups by their frequency would correct the imbalance twice.
BALANCING = frozenset({"undersampled", "oversampled", "equal_share"})


def shuffled(
    rows: np.ndarray, partition: Partition, patient: np.ndarray, batch_size: int, seed: int
) -> grain.MapDataset:
    """Sample every row once an epoch, in a new random order each epoch, regardless of groups.

    Args:
        rows: i[N], rows of the cohort table to train on.
        partition: the groups of the whole table.
        patient: [rows of the table], the patient of each case.
        batch_size: of the global batch, B.
        seed: of the order.

    Returns:
        An endless dataset of rows whose k-th element is a function of the arguments and k.
    """
    del partition, patient
    return _group_batches([rows], [1], batch_size, seed)


def undersampled(
    rows: np.ndarray, partition: Partition, patient: np.ndarray, batch_size: int, seed: int
) -> grain.MapDataset:
    """Sample the rows of `undersample` as `shuffled` does (Siddiqui et al. 2024, "balanced"); arguments as there."""
    return shuffled(
        undersample(rows, partition, patient, batch_size, seed), partition, patient, batch_size, seed
    )


def undersample(
    rows: np.ndarray, partition: Partition, patient: np.ndarray, batch_size: int, seed: int
) -> np.ndarray:
    """Return the rows of as many patients of each group as the smallest group has, chosen by the seed.

    A patient with cases in several groups counts in each. A second application changes nothing. Arguments as for
    `shuffled`.

    Returns:
        i[M], the rows of the chosen patients.

    Raises:
        InputError: a group has no training case, or fewer cases than a batch remain.
    """
    members = _members(rows, partition, "undersampled")
    if absent := [name for name, cases in zip(partition.names, members, strict=True) if not len(cases)]:
        raise InputError(
            f"config.mitigation.sampler.name='undersampled': no training case has {absent[0]}, so no patient of the "
            "others would remain; take wider groups, another split (config.data.seed) or another sampler"
        )
    patients = [np.unique(patient[cases]) for cases in members]
    fewest = min(map(len, patients))
    rng = np.random.default_rng(seed)
    chosen = [
        cases[np.isin(patient[cases], rng.choice(group_patients, fewest, replace=False))]
        for cases, group_patients in zip(members, patients, strict=True)
    ]
    remaining = np.concatenate(chosen)
    if batch_size > len(remaining):
        raise InputError(
            f"config.train.batch_size={batch_size}: undersampled to {fewest} patients a group, {len(remaining)} "
            "training cases remain; give a smaller batch, wider groups or another sampler"
        )
    return remaining


def oversampled(
    rows: np.ndarray, partition: Partition, patient: np.ndarray, batch_size: int, seed: int
) -> grain.MapDataset:
    """Sample with replacement, each case with a probability proportional to 1 / n_g (Lee et al. 2025).

    n_g is the number of training cases of the group; empty groups are never sampled. Arguments as for `shuffled`.

    Raises:
        InputError: no training case has a known group.
    """
    del patient, batch_size
    members = [cases for cases in _members(rows, partition, "oversampled") if len(cases)]

    def draw(_: int, rng: np.random.Generator) -> np.int64:
        row: np.int64 = rng.choice(members[rng.integers(len(members))])
        return row

    return grain.MapDataset.range(sys.maxsize).seed(seed).random_map(draw)


def proportional(
    rows: np.ndarray, partition: Partition, patient: np.ndarray, batch_size: int, seed: int
) -> grain.MapDataset:
    """Sample batches with the training proportions; every row once an epoch, reshuffled each epoch.

    Siddiqui et al. 2024 ("stratified batches"). A batch has B n / N cases of a group with n of the N cases, rounded up
    in some batches and down in others, so that an epoch contains each case once. Arguments as for `shuffled`.
    """
    del patient
    groups = [rows[partition.index[rows] == group] for group in range(UNKNOWN, len(partition.names))]
    members = [cases for cases in groups if len(cases)]
    return _group_batches(members, [len(cases) for cases in members], batch_size, seed)


def equal_share(
    rows: np.ndarray, partition: Partition, patient: np.ndarray, batch_size: int, seed: int
) -> grain.MapDataset:
    """Sample B / G cases of each of the G groups in every batch (Puyol-Antón et al. 2021).

    If G does not divide B, the groups alternate in having one more case. Each group repeats its cases, reshuffled each
    time, until the largest group is complete. Groups without a training case are ignored. Arguments as for
    `shuffled`.

    Raises:
        InputError: a batch is smaller than the number of groups, or no training case has a known group.
    """
    del patient
    members = [cases for cases in _members(rows, partition, "equal_share") if len(cases)]
    if batch_size < len(members):
        raise InputError(
            f"config.train.batch_size={batch_size}: equal_share needs a case of each of the {len(members)} groups "
            f"of {', '.join(partition.attributes)} in every batch; give at least {len(members)}"
        )
    return _group_batches(members, [1] * len(members), batch_size, seed)


SAMPLERS: dict[str, Sampler] = {
    "shuffled": shuffled,
    "undersampled": undersampled,
    "oversampled": oversampled,
    "proportional": proportional,
    "equal_share": equal_share,
}


def _members(rows: np.ndarray, partition: Partition, sampler: str) -> list[np.ndarray]:
    """Return the training rows of each group of the partition, without those of unknown group."""
    group = partition.index[rows]
    if (group == UNKNOWN).all():
        raise InputError(
            f"config.mitigation.sampler.name={sampler!r}: {', '.join(partition.attributes)} is missing for every "
            "training case; name other config.mitigation.groups, or use the sampler shuffled"
        )
    return [rows[group == g] for g in range(len(partition.names))]


def _group_batches(
    members: list[np.ndarray], shares: list[int], batch_size: int, seed: int
) -> grain.MapDataset:
    """Return batches with a fixed share of each group, in which each group repeats its cases in shuffled epochs."""
    sizes = np.array([len(cases) for cases in members])
    totals = prefix_counts(shares, batch_size)
    period = len(totals) - 1

    orders = [_epoch_orders(cases, seed, group) for group, cases in enumerate(members)]

    @lru_cache(16)
    def batch(step: int) -> np.ndarray:
        cycle, step = divmod(step, period)
        count = totals[step + 1] - totals[step]
        offset = cycle * totals[period] + totals[step]  # examples of each group in the earlier batches
        group = np.repeat(np.arange(len(count)), count)
        index = np.concatenate([start + np.arange(n) for start, n in zip(offset, count, strict=True)])
        epoch, position = np.divmod(index, sizes[group])
        rows = [orders[g](e)[k] for g, e, k in zip(group, epoch.tolist(), position, strict=True)]
        # If a batch spans two epochs, the cases of the earlier one come first, so that epochs do not mix.
        return np.array(rows)[np.argsort(epoch, kind="stable")]

    return grain.MapDataset.range(sys.maxsize).map(lambda k: batch(k // batch_size)[k % batch_size])


def _epoch_orders(cases: np.ndarray, seed: int, group: int) -> Callable[[int], np.ndarray]:
    """Return a pure, cached function: epoch -> the order of a group's cases in it."""
    return lru_cache(4)(lambda epoch: np.random.default_rng((seed, group, epoch)).permutation(cases))


def prefix_counts(shares: Sequence[int], batch_size: int) -> np.ndarray:
    """Return the number of cases of each group in the first t batches, for t up to the period of the sequence.

    With s_g = shares[g] / sum(shares) and batches of size B, every batch has floor or ceil of B s_g cases of group g,
    and the first t batches together have floor or ceil of t B s_g, for every t. The period is the smallest T for which
    all T B s_g are integers.

    The cases beyond floor(B s_g) are unit jobs of G tasks of rate < 1 on as many processors as a batch has remaining
    places, each within one job of its rate at all times: proportionate fairness (Baruah, Cohen, Plaxton and Varvel,
    Algorithmica 1996), which the order PD2 always achieves (Anderson and Srinivasan, Journal of Computer and System
    Sciences 2004). The simple rule, a place for the task with the largest deficit, sometimes deviates by more than one
    (from five groups on).

    Args:
        shares: G positive whole numbers.
        batch_size: B.

    Returns:
        i64[T + 1, G], the first row 0.
    """
    total = sum(shares)
    period = total // gcd(total, batch_size)
    floors, remainders = np.divmod(np.multiply(shares, batch_size), total)
    places = batch_size - int(floors.sum())
    due = [int(remainder) for remainder in remainders]  # of `total`, in each batch
    extra = [0] * len(shares)

    urgency = [_urgency(1, rate, total) for rate in due]
    rows = [[0] * len(shares)]
    for batch in range(1, period + 1):
        released = [g for g, rate in enumerate(due) if extra[g] * total < batch * rate]
        for g in sorted(released, key=urgency.__getitem__)[:places]:
            extra[g] += 1
            urgency[g] = _urgency(extra[g] + 1, due[g], total)
        rows.append([batch * int(floor) + e for floor, e in zip(floors, extra, strict=True)])
    return np.array(rows)


def _urgency(job: int, due: int, total: int) -> tuple[int, int, int]:
    """Return PD2's sort key of a task's job, the most urgent first; `due / total` is the task's rate.

    The first key is the deadline: the batch by whose end the job must be done. Of equal deadlines, jobs that overlap
    the next job's window come first; of those, tasks of rate 1/2 or more, the latest group deadline first: until then,
    each job that is done at its deadline leaves a single batch for the next one.
    """
    if not due:
        return 0, 0, 0  # never released
    deadline = -(-job * total // due)
    if not job * total % due:
        return deadline, 0, 0
    idle = total - due
    group_deadline = -(-total * -(-deadline * idle // total) // idle) if 2 * due >= total else 0
    return deadline, -1, -group_deadline
