"""Group objectives by name: what a config's `mitigation.objective.name` names."""

import inspect
from collections.abc import Callable, Mapping
from typing import Any

from kneefair_jax.errors import choose
from kneefair_jax.mitigation.cvar_dro import cvar_dro
from kneefair_jax.mitigation.erm import erm
from kneefair_jax.mitigation.error_bound import error_bound
from kneefair_jax.mitigation.gap_penalty import gap_penalty
from kneefair_jax.mitigation.group_balanced import group_balanced
from kneefair_jax.mitigation.group_dro import group_dro
from kneefair_jax.mitigation.objective import GroupObjective
from kneefair_jax.mitigation.reweighted import reweighted
from kneefair_jax.mitigation.vrex import vrex
from kneefair_jax.mitigation.within_group_cvar import within_group_cvar

OBJECTIVES: dict[str, Callable[..., GroupObjective]] = {
    "erm": erm,
    "reweighted": reweighted,
    "group_balanced": group_balanced,
    "group_dro": group_dro,
    "cvar_dro": cvar_dro,
    "within_group_cvar": within_group_cvar,
    "gap_penalty": gap_penalty,
    "vrex": vrex,
    "error_bound": error_bound,
}

# Those whose weights do not depend on the losses: F is linear in them, and the weights are known before any loss is.
LINEAR = frozenset({"erm", "reweighted", "group_balanced"})

# Those that compare the groups of a batch: on a batch of a single group they do what `group_balanced` does, and
# `group_dro` learns nothing of its weights.
COMPARING = frozenset({"group_dro", "gap_penalty", "vrex", "error_bound"})

# Those that need no group: they do the same where no group is known.
GROUPLESS = frozenset({"erm", "cvar_dro"})

# Those that weigh a group by how rare it is; with sampling that balances the groups, they would correct twice. The
# others take means inside the groups, which are the same however often a group is drawn.
REWEIGHTING = frozenset({"reweighted"})


def create(name: str, settings: Mapping[str, Any]) -> GroupObjective:
    """The objective of a config.

    Args:
        name: a key of `OBJECTIVES`.
        settings: hyperparameters by name; those that the objective does not take are left alone, and those that are
            not there have their defaults.

    Raises:
        InputError: there is no such objective, or a hyperparameter is out of its range.
    """
    constructor = choose(OBJECTIVES, name, "mitigation.objective.name")
    taken = [field for field in inspect.signature(constructor).parameters if field in settings]
    return constructor(**{field: settings[field] for field in taken})
