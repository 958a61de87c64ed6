"""Rank masks that look wrongly annotated, by a network's masks of the same films.

The ranking tells which masks to look at first. It is no verdict: a network also makes errors, and where it is wrong in
most films, few masks stand out.
"""

from kneefair_jax.label_errors.agreement import MIN_CASES, Z_THRESHOLD
from kneefair_jax.label_errors.compare import AUTO, BATCH, comparison, pair_reader
from kneefair_jax.label_errors.ranking import (
    LabelError,
    Pair,
    PairReader,
    Ranking,
    rank,
)

__all__ = [
    "AUTO",
    "BATCH",
    "MIN_CASES",
    "Z_THRESHOLD",
    "LabelError",
    "Pair",
    "PairReader",
    "Ranking",
    "comparison",
    "pair_reader",
    "rank",
]
