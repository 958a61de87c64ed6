"""Score a network on phantoms that no training draws: clinical and far wider ones, plain and varied films (Dice).

    python -m benchmarks.phantom_scores --checkpoint CHECKPOINT --out FILE

Means, 5th percentiles and worst films of the network's own masks, without the cleaning of `predict`.
"""

import argparse
import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.machine import hardware
from kneefair_jax import anatomy, metrics, models, weights
from kneefair_jax.data import phantom
from kneefair_jax.runtime import atomic, run_directory

# Unseen phantoms to score: whether films are varied, widths of the ranges, heights of the field of view in mm.
SETS = {
    "clinical": (False, (0.0, 0.0), (140.0, 140.0)),
    "wide": (False, (0.3, 1.0), (80.0, 380.0)),
    "varied clinical": (True, (0.0, 0.0), (140.0, 140.0)),
    "varied wide": (True, (0.0, 1.0), (80.0, 380.0)),
}
SEED = 990_000  # no config has it
BATCH = 16


def key_and_place(number: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Return the key of a phantom, and where it lies in the ranges of its set, f32[2]."""
    key = jax.random.fold_in(jax.random.key(SEED), number)
    return key, jax.random.uniform(jax.random.fold_in(key, 5), (2,))


def height(place: jax.Array, fov: jax.Array | tuple[float, float]) -> jax.Array:
    """Return the height of the field of view, mm: uniform on a logarithmic scale."""
    return fov[0] * (fov[1] / fov[0]) ** place[0]


def width(place: jax.Array, ends: jax.Array | tuple[float, float]) -> jax.Array:
    """Return the width of the ranges of all settings."""
    return ends[0] + (ends[1] - ends[0]) * place[1]


def draw(
    number: jax.Array,
    ends: jax.Array | tuple[float, float],
    fov: jax.Array | tuple[float, float],
    *,
    side: int,
    overlaps: bool,
    varied: bool,
) -> Any:
    """Draw an unseen phantom by its number; `ends` and `fov` are those of a set of `SETS`."""
    key, place = key_and_place(number)
    return phantom.draw_case(
        key,
        number % 2,
        size=(side, side),
        fov_mm=height(place, fov),
        width=width(place, ends),
        overlaps=overlaps,
        varied=varied,
    )


def films(name: str, count: int, side: int, first: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Draw phantoms of one of `SETS`: images and labels of `knee_overlaps`, u8[N, side, side] each."""
    varied, ends, fov = SETS[name]
    one = functools.partial(draw, ends=ends, fov=fov, side=side, overlaps=True, varied=varied)
    batch = jax.jit(jax.vmap(one))
    cases = [
        jax.device_get(batch(np.arange(start, start + BATCH, dtype=np.int32)))
        for start in range(first, first + count, BATCH)
    ]
    images, labels = (
        np.concatenate([getattr(case, part) for case in cases])[:count] for part in ("image", "exact")
    )
    return images, labels


class Scorer:
    """Dice of a network on unseen phantoms, drawn and scored on the device; each kind of film is compiled once.

    Attributes:
        names: of the structures that are scored: whole bones.
    """

    def __init__(self, model: Mapping[str, Any], structures: tuple[str, ...], side: int, batch_size: int):
        self.names = anatomy.scored_structures(structures)
        self._side, self._batch_size = side, batch_size
        network = models.create(model, classes=len(structures) + 1)
        table = anatomy.scored_labels(structures)
        regions = len(structures) if table is None else table
        overlaps = structures == anatomy.SCHEMES["knee_overlaps"]

        def dice(
            variables: Any, first: jax.Array, ends: jax.Array, fov: jax.Array, varied: bool
        ) -> jax.Array:
            one = functools.partial(draw, ends=ends, fov=fov, side=side, overlaps=overlaps, varied=varied)
            films = jax.vmap(one)(first + jnp.arange(batch_size))
            logits = jnp.asarray(network.apply(variables, models.standardize(films.image[..., None])))
            return metrics.dice(metrics.overlap(logits.argmax(-1), films.exact, regions))

        self._dice = jax.jit(dice, static_argnames="varied")

    def compile(self, variables: Any) -> dict[bool, jax.stages.Compiled]:
        """Return the programs of plain and of varied films.

        Args:
            variables: of the network, as `jax.ShapeDtypeStruct`.
        """
        pair = jax.ShapeDtypeStruct((2,), jnp.float32)
        number = jax.ShapeDtypeStruct((), jnp.int32)
        return {
            varied: self._dice.lower(variables, number, pair, pair, varied=varied).compile()
            for varied in (False, True)
        }

    def score(
        self, programs: dict[bool, jax.stages.Compiled], variables: Any, name: str, cases: int
    ) -> dict[str, Any]:
        """Mean, 5th percentile, worst Dice and number of films of each structure, of one of `SETS`."""
        varied, ends, fov = SETS[name]
        parts = [
            programs[varied](variables, jnp.int32(first), jnp.array(ends), jnp.array(fov))
            for first in range(0, cases, self._batch_size)
        ]
        dice = np.concatenate(jax.device_get(parts))
        result: dict[str, Any] = {"set": name, "side": self._side, "films": len(dice)}
        for structure, values in zip(self.names, dice.T, strict=True):
            finite = values[~np.isnan(values)]
            if len(finite):
                percentile = float(np.quantile(finite, 0.05))
                result[structure] = {
                    "mean": float(finite.mean()),
                    "percentile_5": percentile,
                    "worst": float(finite.min()),
                    "films": len(finite),
                }
        return result


def main() -> None:
    """Score, print, and write JSON."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--checkpoint", required=True)
    parser.add_argument("--cases", type=int, default=512, help="phantoms of each set")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    network = weights.load(options.checkpoint)
    about = network.about
    scorer = Scorer(about["network"], tuple(about["structures"]), about["grid"][0], BATCH)
    programs = scorer.compile(
        jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), network.variables)
    )
    scores = []
    for name in SETS:
        scores.append(scorer.score(programs, network.variables, name, options.cases))
        print(scores[-1], flush=True)
    environment = {"hardware": hardware(), "environment": run_directory.environment()}
    atomic.write_json(options.out, environment | {"scores": scores})


if __name__ == "__main__":
    main()
