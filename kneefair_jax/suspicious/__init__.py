"""Which masks look wrongly annotated, by what a network says of the same films.

A ranking to look at, not a verdict: a network can be wrong, too, and where it is wrong everywhere, little stands out.
"""

from kneefair_jax.suspicious.agreement import FAR as FAR
from kneefair_jax.suspicious.agreement import FEWEST as FEWEST
from kneefair_jax.suspicious.network import AUTO as AUTO
from kneefair_jax.suspicious.network import BATCH as BATCH
from kneefair_jax.suspicious.network import comparison as comparison
from kneefair_jax.suspicious.network import pairs as pairs
from kneefair_jax.suspicious.ranking import Pair as Pair
from kneefair_jax.suspicious.ranking import Ranking as Ranking
from kneefair_jax.suspicious.ranking import Read as Read
from kneefair_jax.suspicious.ranking import Suspect as Suspect
from kneefair_jax.suspicious.ranking import rank as rank
