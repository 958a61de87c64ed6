"""Group objectives, which turn the losses of a batch into one number by weighting its examples.

from kneefair_jax import mitigation
objective = mitigation.group_dro(eta=0.1)
state = objective.init(counts, patients)                      # training cases and patients of each group
weights, state = objective.update(losses, group, mask, state)
total = jnp.sum(jax.lax.stop_gradient(weights) * losses)      # differentiate this
objective.value(weights, losses, group, mask, state)          # report this, F itself
"""

import importlib
import pkgutil

from kneefair_jax.mitigation.cvar import cvar_dro, within_group_cvar
from kneefair_jax.mitigation.group_dro import error_bound, group_dro
from kneefair_jax.mitigation.group_means import erm, gap_penalty, group_balanced, reweighted, vrex
from kneefair_jax.mitigation.objective import GroupObjective, ascend
from kneefair_jax.mitigation.registry import OBJECTIVES, Registration, create, register

for _module in pkgutil.iter_modules(__path__):  # each registers its objectives
    importlib.import_module(f"{__name__}.{_module.name}")

__all__ = [
    "OBJECTIVES",
    "GroupObjective",
    "Registration",
    "ascend",
    "create",
    "cvar_dro",
    "erm",
    "error_bound",
    "gap_penalty",
    "group_balanced",
    "group_dro",
    "register",
    "reweighted",
    "vrex",
    "within_group_cvar",
]
