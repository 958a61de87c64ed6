"""How many patients each group gets: shares of intersections, whole people, a group made rare in training."""

from collections.abc import Mapping, Sequence
from itertools import product
from typing import Any

import numpy as np

# At strength 1, `representation` leaves a group this share of the training places that it has by its size.
LEAST_REPRESENTED = 0.05

Cell = tuple[str, ...]  # a level of each attribute


def cells(shares: Mapping[str, Mapping[str, float]]) -> dict[Cell, float]:
    """The share of every intersection of levels: attributes are independent, so it is the product of its levels'."""
    return {
        cell: float(np.prod([shares[a][level] for a, level in zip(shares, cell, strict=True)]))
        for cell in product(*(levels for levels in shares.values()))
    }


def quotas(shares: Mapping[Any, float], count: int) -> dict[Any, int]:
    """How many of `count` each gets, by largest remainders; equal remainders are served in order.

    Args:
        shares: name -> share, adding up to 1.
        count: how many there are to deal.

    Returns:
        name -> count; they add up to `count`.
    """
    names = list(shares)
    exact = [count * shares[name] for name in names]
    # The margin keeps a whole number that floating point has put just below itself.
    counts = [int(np.floor(value + 1e-9)) for value in exact]
    by_remainder = sorted(range(len(names)), key=lambda i: round(counts[i] - exact[i], 9))
    for i in by_remainder[: count - sum(counts)]:
        counts[i] += 1
    return dict(zip(names, counts, strict=True))


def under_represented(
    shares: Mapping[Cell, float], attributes: Sequence[str], bias: Mapping[str, Mapping[str, float]]
) -> dict[Cell, float]:
    """The shares of training places under the switch `representation`; what a group loses goes to the others."""
    left = {}
    for cell, share in shares.items():
        levels = {f"{attribute}={level}" for attribute, level in zip(attributes, cell, strict=True)}
        strength = max(
            (s.get("representation", 0.0) for name, s in bias.items() if set(name.split(",")) <= levels),
            default=0.0,
        )
        left[cell] = share * (1 - (1 - LEAST_REPRESENTED) * strength)
    return {cell: share / sum(left.values()) for cell, share in left.items()}
