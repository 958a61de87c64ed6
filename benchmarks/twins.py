"""Twins (`kneefair_jax.audit.twins`) of a shipped network, for docs/weights.md.

python -m benchmarks.twins [--checkpoint phantom] [--cases 60]
"""

import argparse
from pathlib import Path

import numpy as np

from benchmarks import real_bones
from benchmarks.machine import conditions
from kneefair_jax.audit import twins
from kneefair_jax.predict import measuring
from kneefair_jax.runtime import atomic

SEED = 8_400_000


def main() -> None:
    """Print the effects and write them as JSON."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--checkpoint", default="phantom")
    parser.add_argument("--cases", type=int, default=60)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "twins.json")
    options = parser.parse_args()
    predictor = real_bones.load(options.checkpoint)

    def segment(film: np.ndarray) -> dict[str, np.ndarray]:
        return measuring.bones_of(predictor.segment([film[..., None]], warn=False)[0])

    films = twins.Films(seed=SEED)
    effects = twins.effects(twins.study(segment, options.cases, films=films))
    print(effects.to_string())
    result: dict[str, dict[str, object]] = {}
    for effect in effects.itertuples():
        entry = {"mean": effect.mean, "interval": [effect.low, effect.high], "knees": effect.knees}
        result.setdefault(effect.switch, {})[effect.score] = entry
    about = conditions() | {
        "checkpoint": options.checkpoint,
        "cases": options.cases,
        "fov_mm": films.fov_mm,
    }
    atomic.write_json(options.out, about | {"effects": result})


if __name__ == "__main__":
    main()
