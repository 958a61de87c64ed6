"""Differences of group means within patients, for attributes whose groups share their patients, such as the side.

The spread between patients, which both knees share, cancels in a patient's difference; Welch's test of independent
groups would count it as error. Under the null hypothesis a patient's difference is as likely to have the other sign,
so the signs are flipped at random, patient by patient and the same for all pairs of groups. Each pair's t is
studentized, goes through Hall's transformation where the differences are skewed, and is judged by the largest |t| of
all pairs, as in `hypothesis_tests.permuted_welch`, whose result has the same form. Of two groups with differences that
are not skewed, it is the paired t-test.
"""

from dataclasses import replace

import numpy as np
from scipy import stats

from kneefair_jax.fairness import pair_differences, two_part
from kneefair_jax.fairness.bootstrap import CHUNK
from kneefair_jax.fairness.hypothesis_tests import TIE, PermutationTests
from kneefair_jax.fairness.pair_differences import PairDifferences
from kneefair_jax.fairness.patient_bootstrap import Sample

# Standard errors of a normal sample's skewness, within which differences count as not skewed.
SYMMETRIC = 2.0


def complete(sample: Sample, patients: np.ndarray) -> Sample | None:
    """The patients with a score in every group, in the same order in each.

    Args:
        sample: of G ranked groups alone, a row for each group that a patient is in.
        patients: [P], the patient of each of its rows.

    Returns:
        None where they are not more than half of the patients: the groups are then compared as independent ones.
    """
    count = len(sample.sizes)
    _, who, rows = np.unique(patients, return_inverse=True, return_counts=True)
    whole = rows == count
    if count < 2 or 2 * whole.sum() <= len(whole) or whole.sum() < 2:
        return None
    kept = np.flatnonzero(whole[who])
    label = np.repeat(np.arange(count), sample.sizes)
    places = kept[np.lexsort((who[kept], label[kept]))].reshape(count, -1)
    # By their scores, so that neither names nor the order of rows change a flip.
    scores = sample.scores[:, places].reshape(-1, places.shape[1])
    chosen = places[:, np.lexsort(scores)].ravel()
    return sample._replace(
        scores=sample.scores[:, chosen],
        sizes=np.full(count, places.shape[1]),
        rows=sample.rows[chosen],
    )


def sign_flips(
    scores: np.ndarray, sizes: np.ndarray, rng: np.random.Generator, flips: int = 10_000
) -> PermutationTests:
    """Paired t of two groups, and of more the largest |t| of all pairs, by random flips of the differences' signs.

    p is (1 + flips at least as extreme) / (1 + flips).

    Args:
        scores: f64[K, P], the groups one after another, the same patients in the same order in each; none NaN.
        sizes: i64[G], all the same, two or more.
        rng: flips, the same way for all K.
        flips: how many.
    """
    differences = _differences(scores, sizes)  # [K, J, n]
    columns, pairs, patients = differences.shape
    # Scaling changes no statistic and keeps sums of powers exact.
    size = np.sqrt((differences**2).mean(2, keepdims=True))
    scaled = np.divide(differences, size, out=np.zeros_like(differences), where=size > 1e-12)
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


def of_groups(
    parts: list[np.ndarray], place: np.ndarray, tests: PermutationTests, column: int, span: float
) -> PairDifferences:
    """As `pair_differences.of_groups`, of `sign_flips`, with the standard errors of differences within patients."""
    differences = _differences(np.concatenate(parts)[None], np.array([len(part) for part in parts]))[0]
    errors = differences.std(1, ddof=1) / np.sqrt(differences.shape[1])
    return replace(pair_differences.of_groups(parts, place, tests, column, span), errors=errors)


def student_intervals(scores: np.ndarray, sizes: np.ndarray, confidence: float = 0.95) -> np.ndarray:
    """Student's interval of each pair's difference on its own, f64[K, J, 2]; arguments as in `sign_flips`."""
    differences = _differences(scores, sizes)
    patients = differences.shape[2]
    half = stats.t.ppf((1 + confidence) / 2, patients - 1) * differences.std(2, ddof=1) / np.sqrt(patients)
    return np.stack([differences.mean(2) - half, differences.mean(2) + half], axis=-1)


def detectable_gap(
    scores: np.ndarray, sizes: np.ndarray, power: float = 0.8, level: float = 0.05
) -> np.ndarray:
    """The gap that a two-sided paired t-test would find with this power: f64[K], of the pair where it is largest."""
    differences = _differences(scores, sizes)
    patients = differences.shape[2]
    quantiles = stats.t.ppf(1 - level / 2, patients - 1) + stats.t.ppf(power, patients - 1)
    return (quantiles * differences.std(2, ddof=1) / np.sqrt(patients)).max(1)


def note(compared: int, patients: int) -> str:
    """Say that a test is within patients, and how many take no part.

    Args:
        compared: patients with a score in every group.
        patients: those with a score in any of them.
    """
    return (
        f"Differences are tested within the {compared} patients who have cases in each of these groups; "
        f"{patients - compared} with cases in some of them, or with a failed segmentation in one, take no part. "
        "Intervals of all patients and rank tests count a patient in each group as different people"
    )


def _differences(scores: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """f64[K, G n] -> f64[K, J, n], the first minus a later group."""
    groups = scores.reshape(len(scores), len(sizes), -1)
    first, second = np.triu_indices(len(sizes), 1)
    return groups[:, first] - groups[:, second]


def _paired_statistics(differences: np.ndarray, signs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Student's t of the mean difference and its skewness, of f64[n, M] with f64[D, n] signs: f64[D, M] each.

    The skewness is 0 where it is within `SYMMETRIC` standard errors of 0, so that its noise changes no t.
    """
    n = len(differences)
    squares = (differences**2).mean(0)
    mean = signs @ differences / n
    # Equal differences have a standard error of nearly 0, not of 0: their t is large, not undefined.
    moment = np.maximum(squares - mean**2, 1e-12 / n)
    third = signs @ differences**3 / n - 3 * mean * squares + 2 * mean**3
    shape = np.where(moment > 1e-9, third / moment**1.5, 0.0)
    shape = np.where(np.abs(shape) > SYMMETRIC * np.sqrt(6 / n), shape, 0.0)
    return mean / np.sqrt(moment / (n - 1)), shape / np.sqrt(n)
