"""Which masks look wrongly annotated, by what a network says of the same films.

A ranking to look at, not a verdict: a network can be wrong, too, and where it is wrong everywhere, little stands out.
"""

from kneefair_jax.label_errors.agreement import FAR, FEWEST
from kneefair_jax.label_errors.compare import AUTO, BATCH, comparison, pairs
from kneefair_jax.label_errors.ranking import Pair, Ranking, Read, Suspect, rank

__all__ = [
    "AUTO",
    "BATCH",
    "FAR",
    "FEWEST",
    "Pair",
    "Ranking",
    "Read",
    "Suspect",
    "comparison",
    "pairs",
    "rank",
]
