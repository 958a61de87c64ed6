"""Random permutations of group labels over many patients, several times as fast as shuffling each of them.

Labels drawn independently miss the groups' sizes by about the root of the number of patients. The surplus members of a
group, chosen at random, then move to the groups that lack members. No step depends on a patient's place, so every
labelling of these sizes has the same probability, whatever probabilities the first labels had: those are multiples of
1 / 256, the resolution of one random byte.
"""

import numpy as np

_LEVELS = 256


def draw(sizes: np.ndarray, draws: int, rng: np.random.Generator) -> np.ndarray:
    """Return u8[draws, P], uniformly random labels 0, ..., G - 1 with exactly these sizes in each row.

    Args:
        sizes: i64[G], patients of each group, fewer than 256 groups.
        draws: rows.
        rng: draws the labels.
    """
    patients = int(sizes.sum())
    numbers = rng.integers(_LEVELS, size=(draws, patients), dtype=np.uint8)
    labels = np.zeros((draws, patients), np.uint8)
    for end in np.cumsum(sizes)[:-1] * (_LEVELS - 1) // patients:
        labels += numbers > end
    for row in labels:
        _correct_sizes(row, sizes, rng)
    return labels


def _correct_sizes(labels: np.ndarray, sizes: np.ndarray, rng: np.random.Generator) -> None:
    """Move random surplus members of groups to those that lack members; `labels`, u8[P], changes in place."""
    surplus = np.array([np.count_nonzero(labels == g) for g in range(len(sizes))]) - sizes
    moved = []
    for g in np.flatnonzero(surplus > 0):
        members = np.flatnonzero(labels == g)
        moved.append(members[rng.choice(len(members), surplus[g], replace=False)])
    if moved:
        labels[np.concatenate(moved)] = np.repeat(
            np.arange(len(sizes), dtype=np.uint8), np.maximum(-surplus, 0)
        )
