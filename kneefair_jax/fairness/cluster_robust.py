"""Fits weighted least squares with cluster-robust standard errors (CR2) and Satterthwaite degrees of freedom."""

from typing import NamedTuple

import numpy as np

# With a leverage (share of a cluster's own scores in their fitted values) above this, residuals are not informative.
_FULL_LEVERAGE = 1 - 1e-9


class Contrasts(NamedTuple):
    """Estimates of M linear combinations of the coefficients.

    Attributes:
        estimate: f64[M], in units of the response.
        error: f64[M], CR2 standard errors.
        freedom: f64[M], degrees of freedom of Student's t for estimate / error.
        loads: f64[P, M], what an error of 1 in every row of a cluster contributes to each estimate, clusters ascending.
    """

    estimate: np.ndarray
    error: np.ndarray
    freedom: np.ndarray
    loads: np.ndarray


def contrasts(
    x: np.ndarray, y: np.ndarray, clusters: np.ndarray, weights: np.ndarray, combinations: np.ndarray
) -> Contrasts | None:
    """Estimate linear combinations of the coefficients of `y ~ x`, robust to any covariance within a cluster.

    With clusters of one observation and one two-level factor, estimate / error is Welch's t. The degrees of freedom
    are exact where errors are normal, independent and of variance 1 / weight (the working model, which also defines
    the correction of the residuals); the standard errors are consistent whatever the covariance within clusters.

    Args:
        x: f64[N, K], of full column rank.
        y: f64[N].
        clusters: [N], the cluster of each row, in any order.
        weights: f64[N], positive, the same for all rows of a cluster.
        combinations: f64[M, K], the coefficients' weights in each combination.

    Returns:
        None if a single cluster determines a coefficient, because its residuals are then not informative.

    Reference:
        Bell & McCaffrey, Survey Methodology 28(2):169-181, 2002. Pustejovsky & Tipton, Journal of Business & Economic
        Statistics 36(4):672-683, 2018, doi:10.1080/07350015.2016.1247004.
    """
    root = np.sqrt(weights)
    q, r = np.linalg.qr(x * root[:, None])
    coordinates = q.T @ (y * root)
    # Rows by cluster, padded with zeros, which contribute nothing: [P, longest cluster, K] and [P, longest cluster].
    blocks, residuals = _cluster_blocks(q, clusters), _cluster_blocks(y * root - q @ coordinates, clusters)
    left, leverage, right = np.linalg.svd(blocks, full_matrices=False)
    if leverage.max() ** 2 > _FULL_LEVERAGE:
        return None
    # (I - H_ii)^(-1/2) Q_i, since H_ii = Q_i Q_i'.
    adjusted = (left * (leverage / np.sqrt(1 - leverage**2))[:, None]) @ right
    directions = np.linalg.solve(r.T, combinations.T)
    # f64[P, longest cluster, M]: each estimate's variance is the sum over clusters of (influence . residuals)^2.
    influence = adjusted @ directions
    variance = (np.einsum("pnm,pn->pm", influence, residuals) ** 2).sum(0)
    # Under the working model the clusters' influence . residuals have the covariance diag(own) - U U'. The variance is
    # their sum of squares, whose mean is the trace, and whose variance is twice the trace of the square.
    cluster_variance = (influence**2).sum(1)
    cluster_overlap = np.einsum("pnk,pnm->mpk", blocks, influence)
    overlap_variance = (cluster_overlap**2).sum(2).T
    trace = (cluster_variance - overlap_variance).sum(0)
    products = cluster_overlap.transpose(0, 2, 1) @ cluster_overlap
    trace_of_square = (cluster_variance**2 - 2 * cluster_variance * overlap_variance).sum(0) + (
        products**2
    ).sum((1, 2))
    loads = np.einsum("pnk,pn->pk", blocks, _cluster_blocks(root, clusters)) @ directions
    return Contrasts(directions.T @ coordinates, np.sqrt(variance), trace**2 / trace_of_square, loads)


def _cluster_blocks(rows: np.ndarray, clusters: np.ndarray) -> np.ndarray:
    """Group rows by cluster, padded with zeros: [N, ...] -> [P, longest cluster, ...]."""
    _, index, sizes = np.unique(clusters, return_inverse=True, return_counts=True)
    order = np.argsort(index, kind="stable")
    starts = np.cumsum(sizes) - sizes
    position = np.arange(len(index)) - np.repeat(starts, sizes)
    blocks = np.zeros((len(sizes), sizes.max(), *rows.shape[1:]))
    blocks[index[order], position] = rows[order]
    return blocks
