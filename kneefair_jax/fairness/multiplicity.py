"""Corrects for multiple tests: Holm for confirmatory claims, Benjamini and Hochberg for exploratory ones."""

from collections.abc import Hashable, Mapping
from operator import itemgetter

from scipy import stats


def holm[Name: Hashable](p_values: Mapping[Name, float | None]) -> dict[Name, float | None]:
    """Return p values with Holm's step-down correction (Scandinavian Journal of Statistics 6, 1979); None stays None.

    The k-th smallest of m is multiplied by m - k + 1, and none falls below its predecessor:

        >>> holm({"a": 0.01, "b": 0.04, "c": 0.03, "d": None})
        {'a': 0.03, 'b': 0.06, 'c': 0.06, 'd': None}
    """
    sorted_tests = sorted(((p, name) for name, p in p_values.items() if p is not None), key=itemgetter(0))
    corrected: dict[Name, float | None] = dict.fromkeys(p_values)
    floor = 0.0
    for k, (p, name) in enumerate(sorted_tests):
        floor = corrected[name] = min(1.0, max(floor, p * (len(sorted_tests) - k)))
    return corrected


def holm_of_families[Name: Hashable](families: Mapping[Name, list[float]]) -> dict[Name, list[float]]:
    """Return p values with Holm's correction over families, from p values that are corrected within each family.

    Each of m families starts with level / m. A family whose hypotheses are all rejected passes its share to the others
    (a sequentially rejective Bonferroni procedure: Bretz et al., Statistics in Medicine 28, 2009). So the error over
    all hypotheses of all families keeps the level. For families of one hypothesis the result is that of `holm`:

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
    """Return p values corrected for the false discovery rate (JRSS B 57, 1995); None stays None."""
    tested_p = {name: p for name, p in p_values.items() if p is not None}
    corrected: dict[Name, float | None] = dict.fromkeys(p_values)
    if tested_p:
        adjusted = stats.false_discovery_control(list(tested_p.values()))
        corrected |= dict(zip(tested_p, adjusted.tolist(), strict=True))
    return corrected
