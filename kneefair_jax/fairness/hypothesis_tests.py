"""Tests within patients, rank tests, Welch's intervals, and corrections for multiple tests.

Groups that share their patients, such as those of the side, are compared by the differences within patients: the
variance between patients, which both knees share, cancels; Welch's test of independent groups would count it as error.
Under the null hypothesis each sign of a patient's difference has the same probability, so the signs are flipped at
random for each patient, the same for all pairs of groups. Each pair's t is studentized, goes through Hall's
transformation if the differences are skewed, and is compared with the largest |t| of all pairs.
`permutation_tests.permuted_welch` does the same and returns the same type. For two groups with differences that are not
skewed, the test is the paired t-test.

Rank tests, which papers often report, answer another question than the gap. Brunner-Munzel tests whether a patient of
one group is as likely to score above as below a patient of the other. Mann-Whitney and Kruskal-Wallis test whether the
distributions are the same, so they also reject if only the variances differ.

Holm's correction is for confirmatory claims, that of Benjamini and Hochberg for exploratory ones.
"""

import warnings
from collections.abc import Hashable, Mapping, Sequence
from itertools import combinations
from operator import itemgetter
from typing import NamedTuple

import numpy as np
from scipy import stats

from kneefair_jax.fairness import two_part
from kneefair_jax.fairness.bootstrap import CHUNK
from kneefair_jax.fairness.patient_bootstrap import Sample
from kneefair_jax.fairness.permutation_tests import TIE, PermutationTests

# Differences whose skewness is within this many standard errors of a normal sample's count as not skewed.
SYMMETRIC = 2.0


def complete_patients(sample: Sample, patients: np.ndarray) -> Sample | None:
    """Return the patients with a score in every group, in the same order in each.

    Args:
        sample: of G ranked groups only, a row for each group that a patient is in.
        patients: [P], the patient of each of its rows.

    Returns:
        None if they are at most half of the patients: the groups are then compared as independent groups.
    """
    count = len(sample.sizes)
    _, patient_index, rows = np.unique(patients, return_inverse=True, return_counts=True)
    has_all_groups = rows == count
    if count < 2 or 2 * has_all_groups.sum() <= len(has_all_groups) or has_all_groups.sum() < 2:
        return None
    complete_rows = np.flatnonzero(has_all_groups[patient_index])
    label = np.repeat(np.arange(count), sample.sizes)
    places = complete_rows[np.lexsort((patient_index[complete_rows], label[complete_rows]))].reshape(
        count, -1
    )
    # Patients are sorted by their scores, so that neither names nor the order of rows change a flip.
    scores = sample.scores[:, places].reshape(-1, places.shape[1])
    row_order = places[:, np.lexsort(scores)].ravel()
    return sample._replace(
        scores=sample.scores[:, row_order],
        sizes=np.full(count, places.shape[1]),
        rows=sample.rows[row_order],
    )


def sign_flips(
    scores: np.ndarray, sizes: np.ndarray, rng: np.random.Generator, flips: int = 10_000
) -> PermutationTests:
    """Test the paired t of two groups, or the largest |t| of all pairs, by random sign flips of the differences.

    p is (1 + flips at least as extreme) / (1 + flips).

    Args:
        scores: f64[K, P], the groups one after another, the same patients in the same order in each; none NaN.
        sizes: i64[G], all the same, two or more.
        rng: flips the signs, the same way for all K.
        flips: number of random sign flips.
    """
    differences = _differences(scores, sizes)  # [K, J, n]
    columns, pairs, patients = differences.shape
    # Scaling changes no statistic and keeps sums of powers exact.
    scale = np.sqrt((differences**2).mean(2, keepdims=True))
    scaled = np.divide(differences, scale, out=np.zeros_like(differences), where=scale > 1e-12)
    flat = scaled.reshape(columns * pairs, patients).T
    t, skewness = _paired_statistics(flat, np.ones((1, patients)))
    observed = np.abs(two_part.hall(t, skewness)).reshape(columns, pairs) * (1 - TIE)
    largest = np.empty((flips, columns))
    rows = max(1, CHUNK // (patients + columns * pairs))
    for start in range(0, flips, rows):
        chunk = slice(start, min(start + rows, flips))
        signs = rng.choice(np.array([-1.0, 1.0]), (chunk.stop - start, patients))
        flipped = np.abs(two_part.hall(*_paired_statistics(flat, signs)))
        largest[chunk] = flipped.reshape(-1, columns, pairs).max(2)
    largest.sort(axis=0)
    p = np.stack(
        [(1 + flips - np.searchsorted(largest[:, k], observed[k])) / (1 + flips) for k in range(columns)]
    )
    t, skewness = (part.reshape(columns, pairs) for part in (t, skewness))
    return PermutationTests(
        "sign-flipped paired t" if pairs == 1 else "largest sign-flipped paired t",
        t[:, 0] if pairs == 1 else np.abs(t).max(1),
        p.min(1),
        t,
        p,
        largest,
        skewness,
    )


def student_intervals(scores: np.ndarray, sizes: np.ndarray, confidence: float = 0.95) -> np.ndarray:
    """Return Student's separate interval of each pair's difference, f64[K, J, 2]; arguments as in `sign_flips`."""
    differences = _differences(scores, sizes)
    patients = differences.shape[2]
    half = stats.t.ppf((1 + confidence) / 2, patients - 1) * differences.std(2, ddof=1) / np.sqrt(patients)
    return np.stack([differences.mean(2) - half, differences.mean(2) + half], axis=-1)


def detectable_gap(
    scores: np.ndarray, sizes: np.ndarray, power: float = 0.8, level: float = 0.05
) -> np.ndarray:
    """Return the gap that a two-sided paired t-test detects with this power: f64[K], the largest over the pairs."""
    differences = _differences(scores, sizes)
    patients = differences.shape[2]
    quantiles = stats.t.ppf(1 - level / 2, patients - 1) + stats.t.ppf(power, patients - 1)
    gaps: np.ndarray = quantiles * differences.std(2, ddof=1) / np.sqrt(patients)
    return gaps.max(1)


def note(complete_patients: int, patients: int) -> str:
    """Return a sentence that states that a test is within patients, and how many patients are excluded.

    Args:
        complete_patients: patients with a score in every group.
        patients: patients with a score in any group.
    """
    return (
        f"Differences are tested within the {complete_patients} patients who have cases in each of these groups; "
        f"{patients - complete_patients} with cases in only some of the groups, or with a failed segmentation in one, "
        "are excluded. Intervals of all patients and rank tests count a patient in each group as a different person"
    )


def _differences(scores: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """Return the differences of all pairs, the first minus a later group: f64[K, G n] -> f64[K, J, n]."""
    groups = scores.reshape(len(scores), len(sizes), -1)
    first, second = np.triu_indices(len(sizes), 1)
    differences: np.ndarray = groups[:, first] - groups[:, second]
    return differences


def _paired_statistics(differences: np.ndarray, signs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return Student's t of the mean difference and its skewness, from f64[n, M] and f64[D, n] signs: f64[D, M] each.

    A skewness within `SYMMETRIC` standard errors of 0 is set to 0, so that its noise changes no t.
    """
    n = len(differences)
    squares = (differences**2).mean(0)
    mean = signs @ differences / n
    # The standard error of equal differences is set to nearly 0, not to 0: their t is large, not undefined.
    moment = np.maximum(squares - mean**2, 1e-12 / n)
    third = signs @ differences**3 / n - 3 * mean * squares + 2 * mean**3
    shape = np.where(moment > 1e-9, third / moment**1.5, 0.0)
    shape = np.where(np.abs(shape) > SYMMETRIC * np.sqrt(6 / n), shape, 0.0)
    return mean / np.sqrt(moment / (n - 1)), shape / np.sqrt(n)


def welch_intervals(scores: np.ndarray, sizes: np.ndarray, confidence: float = 0.95) -> np.ndarray:
    """Return Welch's interval of each pair's difference, not simultaneous over the pairs.

    Args:
        scores: f64[K, P], one per patient, group after group; no NaN.
        sizes: i64[G], two patients or more in each group.
        confidence: of each interval.

    Returns:
        f64[K, J, 2], in the order of `bootstrap.pairs`.
    """
    groups = np.split(scores, np.cumsum(sizes)[:-1], axis=1)
    with warnings.catch_warnings():
        # The interval of equal scores is a point; SciPy warns that they lose precision.
        warnings.simplefilter("ignore", RuntimeWarning)
        intervals = [
            stats.ttest_ind(*pair, axis=1, equal_var=False).confidence_interval(confidence)
            for pair in combinations(groups, 2)
        ]
    return np.stack([np.stack(ends, axis=-1) for ends in intervals], axis=1)


class RankTests(NamedTuple):
    """Rank tests of G groups with J pairs in the order of `bootstrap.pairs`.

    Attributes:
        name: `Brunner-Munzel` of two groups, `Kruskal-Wallis` of more.
        p: of that test; None if it is undefined.
        brunner_munzel: J p values, corrected by Holm over the pairs; None if the ranges of two groups do not overlap,
            because there is no standard error then.
        mann_whitney: J p values; with more than two groups Dunn's, corrected by Holm.
        cliffs_delta: J numbers in [-1, 1], P(first > second) - P(first < second).
    """

    name: str
    p: float | None
    brunner_munzel: list[float | None]
    mann_whitney: list[float | None]
    cliffs_delta: list[float]


def rank_tests(groups: Sequence[np.ndarray]) -> RankTests | None:
    """Test groups of independent patients by two-sided rank tests.

    Args:
        groups: f64[P_g] of each group, no NaN.

    Returns:
        None for fewer than two groups, or a group of fewer than two patients.
    """
    if len(groups) < 2 or min(len(group) for group in groups) < 2:
        return None
    groups = [np.sort(group) for group in groups]
    placements = [(_placements(a, b), _placements(b, a)) for a, b in combinations(groups, 2)]
    brunner_munzel = _holm([_brunner_munzel(*pair) for pair in placements])
    deltas = [2 * float(first.mean()) / len(second) - 1 for first, second in placements]
    if len(groups) == 2:
        mann_whitney = 1.0 if _all_equal(groups) else float(stats.mannwhitneyu(*groups).pvalue)
        return RankTests("Brunner-Munzel", brunner_munzel[0], brunner_munzel, [mann_whitney], deltas)
    p = 1.0 if _all_equal(groups) else float(stats.kruskal(*groups).pvalue)
    return RankTests("Kruskal-Wallis", p, brunner_munzel, _holm(dunn(groups)), deltas)


def dunn(groups: Sequence[np.ndarray]) -> list[float | None]:
    """Return p values of Dunn's test of each pair, corrected for ties, not for the number of pairs.

    z = (mean rank - mean rank) / sqrt((N (N + 1) / 12 - sum(t^3 - t) / (12 (N - 1))) (1 / n + 1 / n')),
    t the sizes of sets of equal scores (Technometrics 6, 1964).
    """
    scores = np.concatenate(groups)
    n = len(scores)
    sizes = np.array([len(group) for group in groups])
    means = np.array([part.mean() for part in np.split(stats.rankdata(scores), np.cumsum(sizes)[:-1])])
    ties = np.unique(scores, return_counts=True)[1].astype(float)
    variance = n * (n + 1) / 12 - (ties**3 - ties).sum() / (12 * (n - 1))
    if variance <= 0:
        return [1.0] * (len(groups) * (len(groups) - 1) // 2)
    first, second = np.triu_indices(len(groups), 1)
    z = (means[first] - means[second]) / np.sqrt(variance * (1 / sizes[first] + 1 / sizes[second]))
    return [float(p) for p in 2 * stats.norm.sf(np.abs(z))]


def _placements(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Return how many patients of the second group score below each patient of the first, ties counted half: f64[n].

    Args:
        first: f64[n]; fastest if it is sorted, too.
        second: f64[m], sorted.
    """
    return (np.searchsorted(second, first, "left") + np.searchsorted(second, first, "right")) / 2


def _brunner_munzel(first: np.ndarray, second: np.ndarray) -> float | None:
    """Return the p value of the Brunner-Munzel test; None if the ranges of the groups do not overlap.

    `scipy.stats.brunnermunzel` gives the same, but sorts both groups for each pair of groups. A placement is a
    patient's rank in both groups minus the rank in the patient's own group.

    Args:
        first: f64[n], placements of the patients of one group, n at least 2 (`_placements`).
        second: f64[m], those of the other group.

    Reference: Brunner and Munzel, Biometrical Journal 42, 2000.
    """
    n, m = len(first), len(second)
    probability = float(first.mean()) / m  # that a patient of the first group scores above one of the second
    if probability in (0.0, 1.0):
        return None
    errors = np.array([first.var(ddof=1) / m**2 / n, second.var(ddof=1) / n**2 / m])
    variance = float(errors.sum())
    if variance == 0:  # all scores are equal
        return 1.0
    freedom = variance**2 / (errors**2 / (np.array([n, m]) - 1)).sum()
    return float(2 * stats.t.sf(abs(probability - 0.5) / np.sqrt(variance), freedom))


def _all_equal(groups: Sequence[np.ndarray]) -> bool:
    return bool(np.ptp(np.concatenate(groups)) == 0)


def _holm(p_values: list[float | None]) -> list[float | None]:
    return list(holm(dict(enumerate(p_values))).values())


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
