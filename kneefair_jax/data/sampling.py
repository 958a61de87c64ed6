"""Which case comes next.

A sampler is a function of the training cases, their groups, the size of the global batch and a seed. It gives an
endless dataset of rows of the cohort table whose k-th element is a function of those and of k: nothing has a state, so
a run goes on at a step by its number alone, and hosts read every H-th element whatever H is.

| sampler | a batch | cases of unknown group |
|---|---|---|
| `shuffled` | as it comes | take part |
| `proportional` | the training proportions, to a whole number | are a group of their own |
| `undersampled` | as it comes, of equally many patients a group | left out |
| `oversampled` | each group with the same probability | left out |
| `equal_share` | equally many of each group | left out |
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

# A group objective that weighs groups by their frequency would correct a second time what these correct.
BALANCING = frozenset({"undersampled", "oversampled", "equal_share"})


def shuffled(
    rows: np.ndarray, partition: Partition, patient: np.ndarray, batch_size: int, seed: int
) -> grain.MapDataset:
    """Every row once an epoch, in an order of its own each epoch, for ever; groups play no part.

    Args:
        rows: i[N], rows of the cohort table to train on.
        partition: the groups of the whole table.
        patient: [rows of the table], whose case each one is.
        batch_size: of the global batch, B.
        seed: of the order.

    Returns:
        An endless dataset of rows whose k-th element is a function of the arguments and k.
    """
    del partition, patient
    return _dealt([rows], [1], batch_size, seed)


def undersampled(
    rows: np.ndarray, partition: Partition, patient: np.ndarray, batch_size: int, seed: int
) -> grain.MapDataset:
    """The rows that `undersample` leaves, `shuffled` (Siddiqui et al. 2024, "balanced"); arguments as there."""
    return shuffled(
        undersample(rows, partition, patient, batch_size, seed), partition, patient, batch_size, seed
    )


def undersample(
    rows: np.ndarray, partition: Partition, patient: np.ndarray, batch_size: int, seed: int
) -> np.ndarray:
    """The patients of each group cut to those of the smallest, a choice fixed by the seed; again, nothing changes.

    A patient whose cases are of several groups counts in each. Arguments as for `shuffled`.

    Returns:
        i[M], the rows of the patients that are left.

    Raises:
        InputError: a group has no training case, or what is left is less than a batch.
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
    kept = [
        cases[np.isin(patient[cases], rng.choice(people, fewest, replace=False))]
        for cases, people in zip(members, patients, strict=True)
    ]
    left = np.concatenate(kept)
    if batch_size > len(left):
        raise InputError(
            f"config.train.batch_size={batch_size}: undersampled to {fewest} patients a group, {len(left)} training "
            "cases are left; give a smaller batch, wider groups or another sampler"
        )
    return left


def oversampled(
    rows: np.ndarray, partition: Partition, patient: np.ndarray, batch_size: int, seed: int
) -> grain.MapDataset:
    """Draws with replacement, each case with a probability proportional to 1 / n_g (Lee et al. 2025).

    n_g counts the training cases of the group; groups without any are never drawn. Arguments as for `shuffled`.

    Raises:
        InputError: no training case has a known group.
    """
    del patient, batch_size
    members = [cases for cases in _members(rows, partition, "oversampled") if len(cases)]

    def draw(_: int, rng: np.random.Generator) -> np.int64:
        return rng.choice(members[rng.integers(len(members))])

    return grain.MapDataset.range(sys.maxsize).seed(seed).random_map(draw)


def proportional(
    rows: np.ndarray, partition: Partition, patient: np.ndarray, batch_size: int, seed: int
) -> grain.MapDataset:
    """Every batch mirrors the training proportions; every row once an epoch, reshuffled each epoch.

    Siddiqui et al. 2024 ("stratified batches"). Of a group with n of the N cases a batch holds B n / N cases, rounded
    up in some batches and down in others so that an epoch comes out even. Arguments as for `shuffled`.
    """
    del patient
    groups = [rows[partition.index[rows] == group] for group in range(UNKNOWN, len(partition.names))]
    members = [cases for cases in groups if len(cases)]
    return _dealt(members, [len(cases) for cases in members], batch_size, seed)


def equal_share(
    rows: np.ndarray, partition: Partition, patient: np.ndarray, batch_size: int, seed: int
) -> grain.MapDataset:
    """B / G cases of each of the G groups in every batch (Puyol-Antón et al. 2021).

    Where G does not divide B, the groups take turns with one case more. Each group goes through its cases in an order
    of its own, and through them again in another as often as the largest group takes. A group without a training case
    has no share. Arguments as for `shuffled`.

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
    return _dealt(members, [1] * len(members), batch_size, seed)


SAMPLERS: dict[str, Sampler] = {
    "shuffled": shuffled,
    "undersampled": undersampled,
    "oversampled": oversampled,
    "proportional": proportional,
    "equal_share": equal_share,
}


def _members(rows: np.ndarray, partition: Partition, sampler: str) -> list[np.ndarray]:
    """The training rows of each group of the partition; those of unknown group are in none."""
    group = partition.index[rows]
    if (group == UNKNOWN).all():
        raise InputError(
            f"config.mitigation.sampler.name={sampler!r}: {', '.join(partition.attributes)} is missing for every "
            "training case; name other config.mitigation.groups, or sample shuffled"
        )
    return [rows[group == g] for g in range(len(partition.names))]


def _dealt(members: list[np.ndarray], shares: list[int], batch_size: int, seed: int) -> grain.MapDataset:
    """Batches with a fixed share of each group, each dealt from a deck of its own that is shuffled anew when empty."""
    sizes = np.array([len(cases) for cases in members])
    before = prefix_counts(shares, batch_size)
    period = len(before) - 1

    decks = [_deck(cases, seed, group) for group, cases in enumerate(members)]

    @lru_cache(16)
    def batch(step: int) -> np.ndarray:
        cycle, step = divmod(step, period)
        count = before[step + 1] - before[step]
        first = cycle * before[period] + before[step]  # cards of each group dealt in the batches before
        group = np.repeat(np.arange(len(count)), count)
        card = np.concatenate([start + np.arange(n) for start, n in zip(first, count, strict=True)])
        epoch, place = np.divmod(card, sizes[group])
        rows = [decks[g](e)[k] for g, e, k in zip(group, epoch.tolist(), place, strict=True)]
        # Where a batch spans two epochs, the older one's cases first: each epoch keeps its own.
        return np.array(rows)[np.argsort(epoch, kind="stable")]

    return grain.MapDataset.range(sys.maxsize).map(lambda k: batch(k // batch_size)[k % batch_size])


def _deck(cases: np.ndarray, seed: int, group: int) -> Callable[[int], np.ndarray]:
    """The order of a group's cases in each epoch: a pure function, which remembers its last answers."""
    return lru_cache(4)(lambda epoch: np.random.default_rng((seed, group, epoch)).permutation(cases))


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
