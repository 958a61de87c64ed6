"""Compare the runs of `benchmarks/time_to_quality.py` by seed."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from scipy import stats

# This package; PyTorch with the same network; and this package with `model.stem=patch2`, another network.
SIDES = ("kneefair_jax", "pytorch", "patch2")


def reached(curve: Sequence[Sequence[float]], target: float) -> tuple[int, float] | None:
    """Step and seconds of the first evaluation with that Dice; None where there is none."""
    return next(((int(step), seconds) for step, seconds, dice in curve if dice >= target), None)


def undisturbed(curve: Sequence[Sequence[float]], step: int) -> float:
    """Seconds to a step if all intervals between evaluations had their median: other work on the machine counts less.

    Args:
        curve: rows of step, seconds and Dice, at equal distances of steps.
        step: of one of the rows.
    """
    steps, seconds, _ = zip(*curve, strict=True)
    return float((steps.index(step) + 1) * np.median(np.diff(seconds, prepend=0.0)))


def compare(runs: Sequence[Mapping[str, Any]], target: float) -> dict[str, Any]:
    """Compares the first two sides by seed, and adds the third where it has runs.

    Args:
        runs: each with `side`, `seed` and the result of `train_jax` or `train_torch`.
        target: Dice to reach.

    Returns:
        `seconds` to the target by side and way of counting, of each seed that both sides have: `loop` from the first
        step, `cold` with building and compilation, `warm` with a warm compilation cache, `undisturbed` as
        `undisturbed`; `steps` by side; `ratio` by way, this package's seconds over PyTorch's, null where a side does
        not reach the target; `final_dice` by side; `difference`, the mean of this package's final Dice minus
        PyTorch's, and its 95 % t `interval`.
    """
    by_side = {side: {run["seed"]: run for run in runs if run["side"] == side} for side in SIDES}
    seeds = sorted(set(by_side[SIDES[0]]) & set(by_side[SIDES[1]]))
    result: dict[str, Any] = {"seeds": seeds, "steps": {}, "seconds": {}, "final_dice": {}}
    for side in SIDES:
        selected = [by_side[side][seed] for seed in seeds if seed in by_side[side]]
        if not selected:
            continue
        hits = [reached(run["curve"], target) for run in selected]
        result["steps"][side] = [hit[0] if hit else None for hit in hits]
        extra = {
            "loop": [0.0] * len(selected),
            "cold": [run["start_seconds"] for run in selected],
            "warm": [run.get("warm_start_seconds", run["start_seconds"]) for run in selected],
        }
        result["seconds"][side] = {
            way: [hit[1] + start if hit else None for hit, start in zip(hits, starts, strict=True)]
            for way, starts in extra.items()
        }
        result["seconds"][side]["undisturbed"] = [
            undisturbed(run["curve"], hit[0]) if hit else None
            for hit, run in zip(hits, selected, strict=True)
        ]
        result["final_dice"][side] = [run["curve"][-1][2] for run in selected]
    if not seeds:
        return result | {"ratio": {}}
    package, torch = (result["seconds"][side] for side in SIDES[:2])
    result["ratio"] = {
        way: [a / b if a and b else None for a, b in zip(package[way], torch[way], strict=True)]
        for way in package
    }
    differences = np.subtract(*(result["final_dice"][side] for side in SIDES[:2]))
    if len(seeds) > 1:
        margin = stats.t.ppf(0.975, len(seeds) - 1) * stats.sem(differences)
        margin, mean = float(margin), float(differences.mean())
        result |= {"difference": mean, "interval": [mean - margin, mean + margin]}
    return result


def merged(
    earlier: Mapping[str, Any], name: str, section: dict[str, Any], run: dict[str, Any]
) -> dict[str, Any]:
    """Returns the results with one more run, in place of an earlier one of its side and seed.

    Runs of another machine, commit, recipe or other versions are dropped.

    Args:
        earlier: data set -> its section.
        name: of the data set.
        section: what all runs of the data set share.
        run: of one side and seed.
    """
    old = earlier.get(name, {})
    same = all(old.get(key) == section[key] for key in section.keys() - {"started"})
    runs = {(one["seed"], SIDES.index(one["side"])): one for one in (*(old["runs"] if same else ()), run)}
    ordered = [runs[key] for key in sorted(runs)]
    return {**earlier, name: section | {"runs": ordered, "comparison": compare(ordered, section["target"])}}
