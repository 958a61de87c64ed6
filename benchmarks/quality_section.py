"""The section "Time to quality" of docs/performance.md."""

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.performance_tables import number, source, table

COMMAND = "python -m benchmarks.time_to_quality --torch_python=..."
TITLES = {"quickstart": "phantoms of the quick start", "jsrt": "JSRT chest radiographs (`--jsrt FOLDER`)"}
WAYS = {"loop": "s", "undisturbed": "s, undisturbed", "warm": "s, warm start", "cold": "s, cold start"}
LABELS = {
    "kneefair_jax": "this package",
    "pytorch": "PyTorch",
    "patch2": "this package, `model.stem=patch2`",
}
COMPARED = ("kneefair_jax", "pytorch")  # the same network
ABOUT = """Wall time until the mean Dice of the validation cases (over cases and structures, at the working resolution)
first reaches a target, beside a plain PyTorch loop. Both sides have the same prepared cases, network, first
parameters, augmentation strengths, loss, optimizer, learning rates, batch size and evaluations, in float32; each draws
its own order of cases and its own variations. Checkpoints and logs are left out. This package has
`train.steps_per_call=5`. PyTorch runs in eager mode, channels last, with all cases in memory and fused Adam, on all
cores. The two take turns, seed by seed. Times are medians over the seeds, with their range; a ratio is this package's
time over PyTorch's, so that below 1 this package is faster.
Times are given from the first step on; "undisturbed", with the median time between two evaluations for each of them,
so that other work on the machine counts less; with a warm start (building and compiling with a compilation cache, as
from the second run of a study on); and with a cold one (compiling everything, as a run on its own does).
`model.stem=patch2` is another network, whose first level takes 2 x 2 pixels as one; ratios are without it."""


def spread(values: Sequence[float | None]) -> str:
    """Median and range, `1.00 [0.90, 1.20]`; a run that did not reach the target is stated."""
    known = [value for value in values if value is not None]
    text = ""
    if known:
        low, middle, high = (number(value) for value in (min(known), statistics.median(known), max(known)))
        text = f"{middle} [{low}, {high}]"
    missing = len(values) - len(known)
    return "; ".join(filter(None, [text, f"{missing} of {len(values)} not reached" if missing else ""]))


def quality_section(result: Mapping[str, Any]) -> list[str]:
    """Tables of the data sets that both sides were measured on.

    Args:
        result: benchmarks/results/time_to_quality.json.
    """
    sections = {
        name: result[name] for name in TITLES if result.get(name, {}).get("comparison", {}).get("seeds")
    }
    text = ["### Time to quality", ABOUT] if sections else []
    for name, section in sections.items():
        text += _data_set(TITLES[name], section)
    return text


def _data_set(title: str, section: Mapping[str, Any]) -> list[str]:
    comparison, cases = section["comparison"], section["cases"]
    runs = [run for run in section["runs"] if run["seed"] in comparison["seeds"]]
    torch = next(run for run in runs if run["side"] == "pytorch")
    load = max(run["load_average"] for run in runs)
    command = f"{COMMAND} --jsrt FOLDER" if "--jsrt" in title else COMMAND
    stated = section | {"torch": torch, "load_average": [load]}
    sides = [side for side in LABELS if side in comparison["steps"]]
    seconds = [[LABELS[side], *_costs(section, side)] for side in sides]
    ratios = [["ratio", "", *(spread(comparison["ratio"][way]) for way in WAYS)]]
    return [
        f"{title[0].upper()}{title[1:]}: {cases['train']} training and {cases['validation']} validation cases of "
        f"{section['size'][0]} x {section['size'][1]}, batches of {section['batch_size']}, an evaluation every "
        f"{section['eval_every']} of {section['steps']:,} steps, seeds {', '.join(map(str, comparison['seeds']))}, "
        f"target {section['target']}. {source(stated, command)}",
        table(["side", "step of the target", *WAYS.values()], seconds + ratios),
        _final(section),
        table(
            [
                "side",
                "step, ms",
                "step without augmentation, ms",
                "an evaluation, ms",
                "loop of all steps, s",
            ],
            [[LABELS[side], *_parts(runs, side)] for side in sides],
        ),
        _gap(runs),
    ]


def _costs(section: Mapping[str, Any], side: str) -> list[str]:
    comparison = section["comparison"]
    seconds = comparison["seconds"][side]
    return [spread(comparison["steps"][side]), *(spread(seconds[way]) for way in WAYS)]


def _final(section: Mapping[str, Any]) -> str:
    comparison = section["comparison"]
    dice = "; ".join(
        f"{LABELS[side]} {', '.join(f'{value:.4f}' for value in comparison['final_dice'][side])}"
        for side in comparison["final_dice"]
    )
    text = f"Dice after {section['steps']:,} steps, by seed: {dice}."
    if "interval" in comparison:
        low, high = comparison["interval"]
        text += (
            f" Mean difference, this package minus PyTorch: {comparison['difference']:+.4f}, 95 % t interval over the "
            f"seeds [{low:+.4f}, {high:+.4f}]."
        )
    return text


def _parts(runs: Sequence[Mapping[str, Any]], side: str) -> list[str]:
    selected = [run for run in runs if run["side"] == side]
    keys = ("step", "step_without_augmentation", "evaluation")
    parts = [number(statistics.median(run["milliseconds"][key] for run in selected)) for key in keys]
    return [*parts, number(statistics.median(run["curve"][-1][1] for run in selected))]


def _gap(runs: Sequence[Mapping[str, Any]]) -> str:
    """Where the difference between the loops comes from."""
    medians = {
        side: [
            statistics.median(values)
            for values in zip(
                *(
                    (run["curve"][-1][1], run["evaluation_seconds"], run["start_seconds"])
                    for run in runs
                    if run["side"] == side
                ),
                strict=True,
            )
        ]
        for side in COMPARED
    }
    loop, evaluation, start = (a - b for a, b in zip(*(medians[side] for side in COMPARED), strict=True))
    return (
        f"This package minus PyTorch, seconds of a whole loop: {loop:+.1f}, of which evaluations {evaluation:+.1f} and "
        f"steps with reading {loop - evaluation:+.1f}; of a cold start: {start:+.1f}."
    )
