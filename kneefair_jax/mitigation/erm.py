"""Empirical risk minimisation: the baseline that every mitigation is compared with."""

from typing import Any

import jax
import jax.numpy as jnp

from kneefair_jax.mitigation.objective import GroupObjective, check_examples, global_sum, safe_divide


def erm() -> GroupObjective:
    """F = mean of the losses of all valid examples, whatever their group.

    Example: losses [1, 3, 5] with mask [1, 1, 0] get weights [1/2, 1/2, 0], and F = 2.
    """

    def init(counts: jax.Array, patients: jax.Array | None = None) -> tuple[()]:
        del counts, patients
        return ()

    def update(
        losses: jax.Array, group: jax.Array, mask: jax.Array, state: Any, axis_name: str | None = None
    ) -> tuple[jax.Array, Any]:
        check_examples(losses, group, mask)
        mask = mask.astype(jnp.result_type(losses))
        return safe_divide(mask, global_sum(mask, axis_name)), state

    return GroupObjective(init, update)
