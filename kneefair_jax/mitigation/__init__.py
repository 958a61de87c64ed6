"""Group objectives: how the losses of a batch become one number, as a weighting of its examples.

from kneefair_jax import mitigation
objective = mitigation.reweighted()
state = objective.init(counts)                                # training cases of each group
weights, state = objective.update(losses, group, mask, state)
total = jnp.sum(jax.lax.stop_gradient(weights) * losses)      # differentiate this
"""

from collections.abc import Callable

from kneefair_jax.mitigation.erm import erm as erm
from kneefair_jax.mitigation.objective import GroupObjective as GroupObjective
from kneefair_jax.mitigation.reweighted import reweighted as reweighted

OBJECTIVES: dict[str, Callable[..., GroupObjective]] = {"erm": erm, "reweighted": reweighted}

# Those that weigh a group by how rare it is; with sampling that balances the groups, they would correct twice.
REWEIGHTING = frozenset({"reweighted"})
