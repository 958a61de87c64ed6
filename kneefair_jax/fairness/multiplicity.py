"""Many tests at once: Holm where claims are confirmed, Benjamini and Hochberg where structures are explored."""

from collections.abc import Hashable, Mapping
from operator import itemgetter

from scipy import stats


def holm[Name: Hashable](p_values: Mapping[Name, float | None]) -> dict[Name, float | None]:
    """Holm's step-down correction (Scandinavian Journal of Statistics 6, 1979) over the tests that were made.

    The k-th smallest of m is multiplied by m - k + 1, and none falls below the one before it:

        >>> holm({"a": 0.01, "b": 0.04, "c": 0.03, "d": None})
        {'a': 0.03, 'b': 0.06, 'c': 0.06, 'd': None}
    """
    made = sorted(((p, name) for name, p in p_values.items() if p is not None), key=itemgetter(0))
    corrected: dict[Name, float | None] = dict.fromkeys(p_values)
    floor = 0.0
    for k, (p, name) in enumerate(made):
        floor = corrected[name] = min(1.0, max(floor, p * (len(made) - k)))
    return corrected


def holm_of_families[Name: Hashable](families: Mapping[Name, list[float]]) -> dict[Name, list[float]]:
    """Holm's correction over families whose p values are already corrected within each.

    Each of m families may err with level / m; one whose hypotheses are all rejected hands its share to the others
    (a sequentially rejective Bonferroni procedure: Bretz et al., Statistics in Medicine 28, 2009). Families of one
    hypothesis give `holm`. So the error over all hypotheses of all families keeps the level:

        >>> holm_of_families({"sex": [0.01], "age": [0.02, 0.04, 0.6]})
        {'sex': [0.02], 'age': [0.02, 0.04, 0.6]}
    """
    order = sorted((max(p), name) for name, p in families.items() if p)
    corrected: dict[Name, list[float]] = {name: [] for name in families}
    for name, p_values in families.items():
        for p in p_values:
            best, passed = 1.0, 0.0
            for k, (largest, other) in enumerate(order):
                share = len(order) - k
                best = min(best, max(passed, share * p))
                if other == name:
                    break
                passed = max(passed, share * largest)
            corrected[name].append(best)
    return corrected


def benjamini_hochberg[Name: Hashable](p_values: Mapping[Name, float | None]) -> dict[Name, float | None]:
    """The p values adjusted for the share of false discoveries among the tests that were made (JRSS B 57, 1995)."""
    made = {name: p for name, p in p_values.items() if p is not None}
    corrected: dict[Name, float | None] = dict.fromkeys(p_values)
    if made:
        adjusted = stats.false_discovery_control(list(made.values()))
        corrected |= dict(zip(made, adjusted.tolist(), strict=True))
    return corrected
