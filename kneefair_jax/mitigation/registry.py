"""Group objectives by name: what a config's `mitigation.objective.name` names."""

import inspect
from collections.abc import Callable, Mapping
from typing import Any

from kneefair_jax.errors import lookup
from kneefair_jax.mitigation.cvar import cvar_dro, within_group_cvar
from kneefair_jax.mitigation.group_dro import error_bound, group_dro
from kneefair_jax.mitigation.group_means import erm, gap_penalty, group_balanced, reweighted, vrex
from kneefair_jax.mitigation.objective import GroupObjective

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

# F is linear in the losses: the weights do not depend on them, so they can be computed before any loss.
LINEAR = frozenset({"erm", "reweighted", "group_balanced"})

# These compare the groups of a batch: on a batch of a single group they equal `group_balanced`, and `group_dro` does
# not update its weights.
COMPARING = frozenset({"group_dro", "gap_penalty", "vrex", "error_bound"})

# These use no group label: they give the same weights where no group is known.
GROUPLESS = frozenset({"erm", "cvar_dro"})

# These weight a group by its rarity, so with sampling that balances the groups they would correct twice. The rest take
# means within the groups, which do not depend on how often the sampler draws a group.
REWEIGHTING = frozenset({"reweighted"})


def create(name: str, settings: Mapping[str, Any]) -> GroupObjective:
    """Build the objective that a config names.

    Args:
        name: a key of `OBJECTIVES`.
        settings: hyperparameters by name. The objective ignores those that it does not take; those that are absent
            have their defaults.

    Raises:
        InputError: there is no such objective, or a hyperparameter is out of its range.
    """
    constructor = lookup(OBJECTIVES, name, "mitigation.objective.name")
    fields = [field for field in inspect.signature(constructor).parameters if field in settings]
    return constructor(**{field: settings[field] for field in fields})
