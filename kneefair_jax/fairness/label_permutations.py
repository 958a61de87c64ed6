"""Random permutations of group labels over many patients, several times as fast as shuffling.

Labels drawn independently miss the groups' sizes by about the square root of the number of patients. Random surplus
members of a group then move to the groups that lack members. No step depends on a patient's position, so every
labeling with these sizes has the same probability, whatever probabilities the first labels had. Those are multiples of
1 / 256, the resolution of one random byte.
"""

import numpy as np

_LEVELS = 256
_WORD = np.iinfo(np.uint64).max  # eight random bytes are drawn at a time, three times as fast as one by one


def draw(sizes: np.ndarray, draws: int, rng: np.random.Generator) -> np.ndarray:
    """Return u8[draws, P], uniformly random labels 0, ..., G - 1 with exactly these sizes in each row.

    Args:
        sizes: i64[G], patients of each group, fewer than 256 groups.
        draws: rows.
        rng: draws the labels.
    """
    patients = int(sizes.sum())
    # The type of the numbers: a comparison with another type would convert all of them.
    ends = (np.cumsum(sizes)[:-1] * (_LEVELS - 1) // patients).astype(np.uint8)
    labels = np.zeros((draws, patients), np.uint8)
    for row in labels:  # one at a time, so that numbers and labels stay in the processor's cache
        words = rng.integers(_WORD, size=-(-patients // 8), dtype=np.uint64, endpoint=True)
        numbers = words.view(np.uint8)[:patients]
        for end in ends:
            row += (numbers > end).view(np.uint8)
        _correct_sizes(row, sizes, rng)
    return labels


def _correct_sizes(labels: np.ndarray, sizes: np.ndarray, rng: np.random.Generator) -> None:
    """Relabel random surplus members to the groups that lack members; `labels`, u8[P], changes in place."""
    counts = np.array([np.count_nonzero(labels == g) for g in range(len(sizes))])
    surplus = counts - sizes
    surplus_members = [
        _members(labels, g, counts[g], surplus[g], rng) for g in np.flatnonzero(surplus > 0).astype(np.uint8)
    ]
    if surplus_members:
        labels[np.concatenate(surplus_members)] = np.repeat(
            np.arange(len(sizes), dtype=np.uint8), np.maximum(-surplus, 0)
        )


def _members(
    labels: np.ndarray, group: np.uint8, count: int, number: int, rng: np.random.Generator
) -> np.ndarray:
    """Return the positions of random distinct members of a group, i64[number].

    Random positions are tried first, which needs no search of all labels. Each is as likely to hold one member as
    another, so the members among them are a random choice, too.

    Args:
        labels: u8[P].
        group: the label.
        count: members of the group.
        number: of members to choose, at most `count`.
        rng: chooses the members.
    """
    if 8 * number < count:
        places = rng.integers(len(labels), size=16 + 2 * number * len(labels) // count)
        distinct = np.fromiter(dict.fromkeys(places[labels[places] == group].tolist()), np.int64)
        if len(distinct) >= number:
            return distinct[:number]
    members = np.flatnonzero(labels == group)
    return members[rng.choice(count, number, replace=False)]
