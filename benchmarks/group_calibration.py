"""Measure bias and slope of calibration by group (`kneefair_jax.fairness.group_calibration`) in discs of three sizes.

    python -m benchmarks.group_calibration            # measures and writes benchmarks/results/group_calibration.json
    python -m benchmarks.group_calibration --table    # prints the table of docs/statistics.md from that file

The truth is a disc whose contour is displaced by noise that is correlated over pixels; the probability is that of the
truth, so it is calibrated. Multiplied logits make it overconfident. A group has 20 patients with one disc each.
"""

import argparse
import itertools
import json
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pandas as pd
from scipy import ndimage, special, stats

from benchmarks.machine import hardware
from kneefair_jax import groups, metrics
from kneefair_jax.fairness import group_calibration
from kneefair_jax.fairness.group_calibration import Sums
from kneefair_jax.runtime import atomic

RADII = (8, 16, 32)  # pixels
CORRELATIONS = (2, 5)  # standard deviation of the Gaussian filter of the noise, pixels
SHARPNESS = (1.0, 1.5)  # factor of the logits; 1 is calibrated
PATIENTS = 20
BLUR = 2.0  # standard deviation of the contour's displacement, pixels
RESULTS = Path(__file__).parent / "results" / "group_calibration.json"


def discs(
    rng: np.random.Generator, number: int, radius: int, correlation: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return logits f32[number, side, side] of discs, and their truth, bool of the same shape."""
    reach = int(1.7 * radius) + 10
    y, x = np.mgrid[-reach : reach + 1, -reach : reach + 1]
    shape = (number, 2 * reach + 1, 2 * reach + 1)
    shift, noise = (_noise(rng, shape, correlation) for _ in range(2))
    distance = (radius - np.hypot(y, x).astype(np.float32) + shift) / BLUR
    logit = special.log_ndtr(distance) - special.log_ndtr(-distance)
    return np.clip(logit, -20, 20), distance + noise > 0


def _noise(rng: np.random.Generator, shape: tuple[int, int, int], correlation: int) -> np.ndarray:
    """Standard normal noise, f32[shape], correlated within images."""
    border = 4 * correlation
    wide = rng.standard_normal((shape[0], shape[1] + 2 * border, shape[2] + 2 * border), np.float32)
    smooth = ndimage.gaussian_filter(wide, (0, correlation, correlation))[:, border:-border, border:-border]
    return smooth * np.float32(2 * correlation * np.sqrt(np.pi))


@partial(jax.jit, static_argnames="sharpness")
def _measure(logit: jax.Array, truth: jax.Array, sharpness: float) -> tuple[tuple[jax.Array, ...], jax.Array]:
    sums = metrics.reliability(jax.nn.sigmoid(sharpness * logit)[..., None], truth.astype(int))
    return sums, metrics.ece(sums)


def calibrations(
    radius: int, correlation: int, number: int, seed: int = 0
) -> dict[float, tuple[list[dict[str, Any]], float]]:
    """Return `group_calibration.GroupCalibration` of each group as a dict, and the mean ECE of cases, by sharpness."""
    rng = np.random.default_rng([seed, radius, correlation])
    parts: dict[float, list[Any]] = {sharpness: [] for sharpness in SHARPNESS}
    for _ in range(number):
        logit, truth = discs(rng, PATIENTS, radius, correlation)
        for sharpness in SHARPNESS:
            parts[sharpness].append(jax.device_get(_measure(logit, truth, sharpness)))
    label = pd.Series(np.repeat([f"{g:05d}" for g in range(number)], PATIENTS))
    cases = pd.DataFrame({"patient_id": np.arange(len(label)), "group": groups.categorical(label)})
    results = {}
    for sharpness, of_groups in parts.items():
        sums, errors = (
            jax.tree.map(lambda *x: np.concatenate(x), *members) for members in zip(*of_groups, strict=True)
        )
        result = group_calibration.calibration(Sums(*sums), cases, ("group",))["groups"]
        entries = [result[f"group={g}"] for g in label.iloc[::PATIENTS]]
        results[sharpness] = entries, float(np.nanmean(errors))
    return results


def summary(entries: list[dict[str, Any]], ece: float) -> dict[str, float]:
    """Return mean bias and slope, how often intervals hold 0 and 1, the share without a slope, and the mean ECE."""
    measured = [entry for entry in entries if entry["slope"] is not None]
    slopes = np.array([entry["slope_interval"] for entry in measured])
    biases = np.array([entry["bias_interval"] for entry in entries])
    return {
        "bias": float(np.mean([entry["bias"] for entry in entries])),
        "bias_covered": float(np.mean((biases[:, 0] <= 0) & (biases[:, 1] >= 0))),
        "slope": float(np.mean([entry["slope"] for entry in measured])),
        "slope_covered": float(np.mean((slopes[:, 0] <= 1) & (slopes[:, 1] >= 1))),
        "without_slope": 1 - len(measured) / len(entries),
        "ece": ece,
    }


def pairs(first: list[dict[str, Any]], second: list[dict[str, Any]]) -> dict[str, float]:
    """Return the shares of pairs whose intervals exclude each other, and whose difference Welch's t calls different."""
    shares = {}
    for name in ("bias", "slope"):
        entries = [
            pair for pair in zip(first, second, strict=True) if all(one[name] is not None for one in pair)
        ]
        values, ends = (
            np.array([[one[key] for one in pair] for pair in entries]) for key in (name, f"{name}_interval")
        )
        shares[f"{name}_intervals_apart"] = float(np.mean(ends[..., 0].max(1) > ends[..., 1].min(1)))
        quantile = stats.t.ppf(1 - group_calibration.LEVEL / 2, PATIENTS - 1)
        variances = ((ends[..., 1] - ends[..., 0]) / 2 / quantile) ** 2
        freedom = variances.sum(1) ** 2 / (variances**2).sum(1) * (PATIENTS - 1)
        t = (values[:, 0] - values[:, 1]) / np.sqrt(variances.sum(1))
        shares[f"{name}_different"] = float(
            np.mean(2 * stats.t.sf(np.abs(t), freedom) < group_calibration.LEVEL)
        )
    return shares


def table(results: dict[str, Any]) -> str:
    """Return the results as two Markdown tables: a row a setting, then a row a pair of sizes."""
    lines = [
        "| logits | correlation | radius | mean ECE | bias | covered | slope | covered |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for setting in itertools.product(SHARPNESS, CORRELATIONS, RADII):
        sharpness, correlation, radius = setting
        one = results["settings"][_key(*setting)]
        coverage = (
            f"{100 * one['slope_covered']:.1f}" if sharpness == 1 else f"*{100 * one['slope_covered']:.1f}*"
        )
        lines.append(
            f"| x {sharpness} | {correlation} | {radius} | {one['ece']:.3f} | {one['bias']:+.4f} | "
            f"{100 * one['bias_covered']:.1f} | {one['slope']:.3f} | {coverage} |"
        )
    columns = ("bias_intervals_apart", "bias_different", "slope_intervals_apart", "slope_different")
    lines += [
        "",
        "| correlation | bias: intervals apart | different | slope: intervals apart | different |",
        "|---|---|---|---|---|",
    ]
    for correlation in CORRELATIONS:
        shares = results["pairs"][str(correlation)]
        lines.append(f"| {correlation} | {' | '.join(f'{100 * shares[name]:.1f}' for name in columns)} |")
    return "\n".join(lines).replace("-0.", "\N{MINUS SIGN}0.")


def _key(sharpness: float, correlation: int, radius: int) -> str:
    return f"logits x {sharpness}, correlation {correlation}, radius {radius}"


def main() -> None:
    """Print each setting and write all of them as JSON, or print their tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--groups", type=int, default=2_000, help="groups a setting")
    parser.add_argument("--out", type=Path, default=RESULTS)
    parser.add_argument("--table", action="store_true", help="print the tables of the results in --out")
    options = parser.parse_args()
    if options.table:
        print(table(json.loads(options.out.read_text())))
        return
    settings: dict[str, dict[str, float]] = {}
    of_pairs: dict[str, dict[str, float]] = {}
    for correlation in CORRELATIONS:
        measured = {radius: calibrations(radius, correlation, options.groups) for radius in RADII}
        for radius, sharpness in itertools.product(RADII, SHARPNESS):
            key = _key(sharpness, correlation, radius)
            settings[key] = summary(*measured[radius][sharpness])
            print(key, json.dumps(settings[key]), flush=True)
        of_pairs[str(correlation)] = pairs(measured[RADII[0]][1.0][0], measured[RADII[-1]][1.0][0])
        print("pairs", correlation, json.dumps(of_pairs[str(correlation)]), flush=True)
    atomic.write_json(
        options.out,
        {"groups": options.groups, "hardware": hardware(), "settings": settings, "pairs": of_pairs},
    )


if __name__ == "__main__":
    main()
