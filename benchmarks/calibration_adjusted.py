"""Does the adjusted model reject as often as it says? Simulated cohorts of 1 to 4 knees a patient without a difference.

    python benchmarks/calibration_adjusted.py

The knees of a patient correlate by 0.5. Errors have the mean 0.08 and the SD 0.03 (0.06 in the smallest group where
spread is doubled); skewed ones are log-normal. The first group is compared with the last, the smallest. With a second
attribute, crossed, and an age, both act on the score and occur more often in the later groups. `CR2` is the package's
contrast; `mixed model` is a random intercept by patient (REML) with its own standard errors and as many degrees of
freedom as there are patients beyond the coefficients.
"""

import argparse
import json
import os
import sys
import time
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

sys.path.insert(0, str(Path(__file__).parents[1]))

import numpy as np
import pandas as pd
from scipy import stats

from benchmarks.machine import hardware
from kneefair_jax import groups
from kneefair_jax.fairness import adjusted_model, model_design, two_part
from kneefair_jax.runtime import atomic, run_directory

MEAN_ERROR, SD, CORRELATION = 0.08, 0.03, 0.5
EFFECT, PER_YEAR = 0.03, 0.001  # of the second attribute, and of age
BATCH = 100  # cohorts that share their patients' attributes, ages and numbers of knees
CORRELATIONS = np.linspace(0, 0.95, 39)  # among which REML chooses


class Condition(NamedTuple):
    """How cohorts are drawn."""

    sizes: tuple[int, ...]
    most_knees: int  # each patient has 1 to as many; 2 stands for two each
    skewed: bool
    wider: float  # SD of the last group over `SD`
    covariates: bool

    @property
    def name(self) -> str:
        """`60-15, 2 knees, skewed, doubled, covariates`."""
        parts = [
            "-".join(map(str, self.sizes)),
            f"{'2' if self.most_knees == 2 else f'1-{self.most_knees}'} knees",
            "skewed" if self.skewed else "normal",
            "doubled" if self.wider > 1 else "equal",
        ]
        return ", ".join([*parts, "covariates"] if self.covariates else parts)


CONDITIONS = [
    Condition(sizes, most_knees, skewed, wider, covariates)
    for covariates, sizes, most_knees, skewed, wider in product(
        (False, True), ((60, 15), (200, 60), (100, 30, 12), (60, 5)), (2, 4), (False, True), (1.0, 2.0)
    )
    if most_knees == 4 or not covariates
]


def cohort(condition: Condition, rng: np.random.Generator) -> pd.DataFrame:
    """A row a knee: `patient_id` (0 to P - 1, ascending), `group`, and with covariates `other` and `age`."""
    group = np.repeat(np.arange(len(condition.sizes)), condition.sizes)
    patients = len(group)
    knees = (
        np.full(patients, 2)
        if condition.most_knees == 2
        else rng.integers(1, condition.most_knees + 1, patients)
    )
    of = np.repeat(np.arange(patients), knees)
    rows = pd.DataFrame({"patient_id": of, "group": groups.categorical(pd.Series(group[of].astype(str)))})
    if condition.covariates:
        has_second_level = rng.random(patients) < 0.3 + 0.2 * (group > 0)
        rows["other"] = groups.categorical(pd.Series(np.where(has_second_level, "b", "a")[of]))
        rows["age"] = (60 + 5 * (group > 0) + rng.normal(0, 8, patients))[of]
    return rows


def scores(condition: Condition, rows: pd.DataFrame, cohorts: int, rng: np.random.Generator) -> np.ndarray:
    """Scores of the knees, every group with the same mean: f64[N, cohorts]."""
    patients = rows["patient_id"].to_numpy()
    last = (rows["group"] == str(len(condition.sizes) - 1)).to_numpy()
    sd = SD * np.where(last, condition.wider, 1.0)[:, None]
    # The logarithms' variance, and the correlation that they need for one of `CORRELATION` between the errors.
    log = np.log1p((sd / MEAN_ERROR) ** 2)
    share = np.log1p(CORRELATION * np.expm1(log)) / log if condition.skewed else CORRELATION
    z = np.sqrt(share) * rng.normal(size=(patients.max() + 1, cohorts))[patients]
    z = z + np.sqrt(1 - share) * rng.normal(size=(len(patients), cohorts))
    errors = MEAN_ERROR * np.exp(np.sqrt(log) * z - log / 2) if condition.skewed else MEAN_ERROR + sd * z
    if condition.covariates:
        effects = EFFECT * (rows["other"] == "b") + PER_YEAR * (rows["age"] - 60)
        errors = errors + effects.to_numpy(float)[:, None]
    return 1 - errors


def batch(condition: Condition, cohorts: int, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """What happened in each cohort: measure -> [cohorts]."""
    rows = cohort(condition, rng)
    y = scores(condition, rows, cohorts, rng)
    attributes = [name for name in ("group", "other") if name in rows]
    design = model_design.design(rows, attributes)
    columns, _ = model_design.independent_columns(design.columns)
    patients, weights = rows["patient_id"], adjusted_model.patient_weights(rows["patient_id"])
    last = str(len(condition.sizes) - 1)
    contrast = model_design.marginal_differences(design, list(columns), weights)["group", last, "0"][None]
    x = columns.to_numpy(float)
    fits = [
        adjusted_model.robust_estimates(x, column, patients.to_numpy(), weights, contrast) for column in y.T
    ]
    estimate, error, freedom = np.array([fit[:3] for fit in fits if fit])[..., 0].T
    simple = (columns.columns == f"group={last}").astype(float)
    simple_estimate, simple_error = mixed_model(x, y, patients.to_numpy(), simple)
    residuals = pd.DataFrame(y - x @ np.linalg.lstsq(x, y, rcond=None)[0]).groupby(patients.to_numpy()).mean()
    group = rows.groupby("patient_id")["group"].first().astype(str).to_numpy()
    levels = pd.Series(group, index=residuals.index)
    skewness = np.array(
        [
            adjusted_model.skewness(residuals[c], levels, fit.loads[:, 0], fit.error[0])
            for c, fit in enumerate(fits)
            if fit
        ]
    )
    return {
        "mixed model rejects": _rejects(simple_estimate / simple_error, patients.nunique() - x.shape[1]),
        "CR2 rejects": _rejects(estimate / error, freedom),
        "CR2 after Hall's transformation rejects": _rejects(
            two_part.hall(estimate / error, skewness), freedom
        ),
        "df": freedom,
        "mixed model, estimate": simple_estimate,
        "CR2, estimate": estimate,
    }


def mixed_model(
    x: np.ndarray, y: np.ndarray, patients: np.ndarray, contrast: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """A contrast of coefficients by REML with a random intercept, and its standard error, each f64[cohorts]."""
    sizes = np.bincount(patients)
    best = np.full(y.shape[1], -np.inf)
    estimate, error = np.zeros_like(best), np.zeros_like(best)
    for correlation in CORRELATIONS:
        ratio = correlation / (1 - correlation)
        shrink = (1 - 1 / np.sqrt(1 + sizes * ratio))[:, None]
        means = [np.add.reduceat(v, np.cumsum(sizes) - sizes, axis=0) / sizes[:, None] for v in (x, y)]
        xw, yw = (v - (shrink * mean)[patients] for v, mean in zip((x, y), means, strict=True))
        q, r = np.linalg.qr(xw)
        freedom = len(x) - x.shape[1]
        variance = ((yw - q @ (q.T @ yw)) ** 2).sum(0) / freedom
        determinants = np.log1p(sizes * ratio).sum() + 2 * np.log(np.abs(np.diag(r))).sum()
        likelihood = -(freedom * np.log(variance) + determinants) / 2
        direction = np.linalg.solve(r.T, contrast)
        better = likelihood > best
        best = np.where(better, likelihood, best)
        estimate = np.where(better, direction @ (q.T @ yw), estimate)
        error = np.where(better, np.sqrt(variance * (direction @ direction)), error)
    return estimate, error


def _rejects(t: np.ndarray, freedom: np.ndarray | int) -> np.ndarray:
    return 2 * stats.t.sf(np.abs(t), freedom) <= 0.05


def measure(condition: Condition, cohorts: int, seed: int = 0) -> dict[str, Any]:
    """The share of cohorts in which each thing happened, and the spread of the two estimates over cohorts."""
    start = time.perf_counter()
    rng = np.random.default_rng([seed, CONDITIONS.index(condition)])
    parts = [batch(condition, min(BATCH, cohorts - begin), rng) for begin in range(0, cohorts, BATCH)]
    values = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    return {
        "cohorts": cohorts,
        "seconds": time.perf_counter() - start,
        "share": {name: float(values[name].mean()) for name in values if name.endswith("rejects")},
        "df": float(np.median(values["df"])),
        "SD": {name: float(values[f"{name}, estimate"].std()) for name in ("mixed model", "CR2")},
    }


def main() -> None:
    """Prints what it finds and writes it as JSON; conditions that are not run again keep their numbers."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    default = Path(__file__).parent / "results" / "calibration_adjusted.json"
    parser.add_argument("--out", type=Path, default=default)
    parser.add_argument("--cohorts", type=int, default=10_000)
    parser.add_argument("--only", nargs="+", default=[""], help="conditions whose name contains one of these")
    options = parser.parse_args()
    chosen = [one for one in CONDITIONS if any(part in one.name for part in options.only)]
    if not chosen:
        parser.error(f"no condition is called that; there are {', '.join(one.name for one in CONDITIONS)}")
    results = json.loads(options.out.read_text())["conditions"] if options.out.exists() else {}
    for condition in chosen:
        results[condition.name] = result = measure(condition, options.cohorts)
        shares = ", ".join(f"{name} {100 * share:.1f} %" for name, share in result["share"].items())
        print(f"{condition.name}: {shares}, df {result['df']:.1f}, SD {result['SD']}", flush=True)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    about = {
        "hardware": hardware(),
        "environment": run_directory.environment(),
        "load_average": os.getloadavg(),
    }
    atomic.write_json(options.out, about | {"conditions": results})


if __name__ == "__main__":
    main()
