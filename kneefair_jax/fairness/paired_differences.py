"""Tests differences of group means within patients, for attributes whose groups share their patients, such as side.

The variance between patients, which both knees share, cancels in a patient's difference; Welch's test of independent
groups would count it as error. Under the null hypothesis each sign of a patient's difference has the same probability,
so the signs are flipped at random for each patient, the same for all pairs of groups. Each pair's t is studentized,
goes through Hall's transformation if the differences are skewed, and is compared with the largest |t| of all pairs.
`hypothesis_tests.permuted_welch` does the same and returns the same type. For two groups with differences that are not
skewed, the test is the paired t-test.
"""

from dataclasses import replace

import numpy as np
from scipy import stats

from kneefair_jax.fairness import hypothesis_tests, two_part
from kneefair_jax.fairness.bootstrap import CHUNK
from kneefair_jax.fairness.hypothesis_tests import TIE, PairDifferences, PermutationTests
from kneefair_jax.fairness.patient_bootstrap import Sample

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


def group_differences(
    scores: list[np.ndarray], test_order: np.ndarray, tests: PermutationTests, column: int, span: float
) -> PairDifferences:
    """Return the `hypothesis_tests.group_differences` of `sign_flips`, with standard errors within patients."""
    differences = _differences(np.concatenate(scores)[None], np.array([len(values) for values in scores]))[0]
    errors = differences.std(1, ddof=1) / np.sqrt(differences.shape[1])
    return replace(hypothesis_tests.group_differences(scores, test_order, tests, column, span), errors=errors)


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
