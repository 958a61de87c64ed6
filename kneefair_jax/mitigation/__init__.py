"""Group objectives: how the losses of a batch become one number, as a weighting of its examples.

from kneefair_jax import mitigation
objective = mitigation.group_dro(eta=0.1)
state = objective.init(counts, patients)                      # training cases and patients of each group
weights, state = objective.update(losses, group, mask, state)
total = jnp.sum(jax.lax.stop_gradient(weights) * losses)      # differentiate this
objective.value(weights, losses, group, mask, state)          # report this, F itself
"""

from kneefair_jax.mitigation.cvar_dro import cvar_dro
from kneefair_jax.mitigation.erm import erm
from kneefair_jax.mitigation.error_bound import error_bound
from kneefair_jax.mitigation.gap_penalty import gap_penalty
from kneefair_jax.mitigation.group_balanced import group_balanced
from kneefair_jax.mitigation.group_dro import group_dro
from kneefair_jax.mitigation.objective import GroupObjective
from kneefair_jax.mitigation.registry import COMPARING, GROUPLESS, LINEAR, OBJECTIVES, REWEIGHTING, create
from kneefair_jax.mitigation.reweighted import reweighted
from kneefair_jax.mitigation.sharpness import ascend
from kneefair_jax.mitigation.vrex import vrex
from kneefair_jax.mitigation.within_group_cvar import within_group_cvar

__all__ = [
    "COMPARING",
    "GROUPLESS",
    "LINEAR",
    "OBJECTIVES",
    "REWEIGHTING",
    "GroupObjective",
    "ascend",
    "create",
    "cvar_dro",
    "erm",
    "error_bound",
    "gap_penalty",
    "group_balanced",
    "group_dro",
    "reweighted",
    "vrex",
    "within_group_cvar",
]
