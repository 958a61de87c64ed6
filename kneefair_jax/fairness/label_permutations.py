"""Random permutations of group labels over many patients, several times as fast as shuffling each of them.

Labels drawn independently miss the groups' sizes by about the root of the number of patients. The surplus members of a
group, chosen at random, then move to the groups that lack members. No step depends on a patient's place, so every
labelling of these sizes has the same probability, whatever probabilities the first labels had: those are multiples of
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
    # Of the type of the numbers: a comparison of other types converts all of them.
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
    """Move random surplus members of groups to those that lack members; `labels`, u8[P], changes in place."""
    counts = np.array([np.count_nonzero(labels == g) for g in range(len(sizes))])
    surplus = counts - sizes
    moved = [
        _members(labels, g, counts[g], surplus[g], rng) for g in np.flatnonzero(surplus > 0).astype(np.uint8)
    ]
    if moved:
        labels[np.concatenate(moved)] = np.repeat(
            np.arange(len(sizes), dtype=np.uint8), np.maximum(-surplus, 0)
        )


def _members(
    labels: np.ndarray, group: np.uint8, count: int, wanted: int, rng: np.random.Generator
) -> np.ndarray:
    """Return the places of random distinct members of a group, i64[wanted].

    Random places are tried first, which takes no search of all labels. Any of them is as likely to hold one member as
    another, so the members among them are a random choice, too.

    Args:
        labels: u8[P].
        group: the label.
        count: members of the group.
        wanted: at most `count`.
        rng: chooses the members.
    """
    if 8 * wanted < count:
        places = rng.integers(len(labels), size=16 + 2 * wanted * len(labels) // count)
        distinct = np.fromiter(dict.fromkeys(places[labels[places] == group].tolist()), np.int64)
        if len(distinct) >= wanted:
            return distinct[:wanted]
    members = np.flatnonzero(labels == group)
    return members[rng.choice(count, wanted, replace=False)]
