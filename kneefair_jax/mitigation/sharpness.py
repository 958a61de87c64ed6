"""Sharpness-aware minimization, which takes any objective's step with the gradient at the worst point nearby."""

from typing import Any

import jax
import jax.numpy as jnp

from kneefair_jax.mitigation.objective import safe_divide


def ascend(params: Any, gradient: Any, radius: float) -> Any:
    """Return the worst of the points within rho of w, to first order: w + rho g / |g|, g being the gradient at w.

    The optimizer then steps from w along the gradient at that point:

        gradient = jax.grad(loss)(params)
        gradient = jax.grad(loss)(sharpness.ascend(params, gradient, radius))

    The weights of a group objective are those at w, where the batch's losses are known.

    Reference: Foret et al. (ICLR 2021). |g| is the norm over all parameters together; where g = 0, w stays.

    Example: rho = 1/2, w = [1, 0], g = [3, 4]: |g| = 5, and the point is [1.3, 0.4].

    Args:
        params: w, a tree of arrays.
        gradient: g, the same tree; of the global batch.
        radius: rho, above 0.
    """
    norm = jnp.sqrt(sum(jnp.square(leaf).sum() for leaf in jax.tree.leaves(gradient)))
    rise = safe_divide(jnp.asarray(radius), norm)
    return jax.tree.map(lambda p, g: p + rise * g, params, gradient)
