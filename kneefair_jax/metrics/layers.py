"""Host scores of structures that share pixels: one label map a layer, each scored by itself."""

from collections.abc import Callable, Sequence

import numpy as np

Scores = dict[str, np.ndarray]


def by_layer(score: Callable[..., Scores], layers: Sequence[np.ndarray], *masks: np.ndarray) -> Scores:
    """Score label maps whose labels stand for several structures.

    Args:
        score: label maps in, scores f[..., S] by name out; labels of these maps are 0 and structures 1..S.
        layers: integer tables, label -> structure or 0 (`anatomy.layers`); each structure is in one of them.
        masks: label maps, one for each argument of `score`.

    Returns:
        f[..., S] by name: the scores of each structure by its layer.
    """
    scored = [score(*(table[mask] for mask in masks)) for table in layers]
    layer_of = {int(value): k for k, table in enumerate(layers) for value in table if value}
    return {
        name: np.stack([scored[k][name][..., value - 1] for value, k in sorted(layer_of.items())], axis=-1)
        for name in scored[0]
    }
