"""Count the false claims of audit pages of simulated cohorts without any true difference.

    python benchmarks/calibration_pages.py

Each cohort has 150 patients, two knees each, 4 structures and 3 attributes of 2, 2 and 3 levels that have nothing to do
with the scores (but for their spread, in `spread`); of a few patients race is unknown. It goes through the public audit
call, and its report is searched for claims. `race` has a true difference by one attribute and no interaction; in `edge`
that difference is the equivalence margin, of 600 patients.
"""

import argparse
import json
import os
import sys
import tempfile
import time
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

import numpy as np
import pandas as pd

from benchmarks.machine import hardware
from kneefair_jax import audit
from kneefair_jax.fairness import family
from kneefair_jax.report.text import summary
from kneefair_jax.runtime import atomic, run_directory

PATIENTS, STRUCTURES = 150, ("femur", "tibia", "fibula", "patella")
EDGE_PATIENTS = 600
ATTRIBUTES = ("sex", "race", "age")
KINDS = ("normal", "skewed", "spread", "failures", "race", "edge")
MARGIN, DIFFERENCE = 0.02, 0.03


def cohort(kind: str, seed: int) -> pd.DataFrame:
    """The long table of scores of one cohort."""
    rng = np.random.default_rng([KINDS.index(kind), seed])
    patients = EDGE_PATIENTS if kind == "edge" else PATIENTS
    about = pd.DataFrame(
        {
            "sex": rng.choice(["female", "male"], patients),
            "race": rng.choice(["White", "Black", ""], patients, p=[0.71, 0.25, 0.04]),
            "age": rng.choice(["<=50", "51-64", ">=65"], patients, p=[0.15, 0.45, 0.4]),
        }
    )
    black = (about["race"] == "Black").to_numpy()
    wider = np.where(black & (kind == "spread"), 2.0, 1.0)[:, None, None]
    lower = {"race": DIFFERENCE, "edge": MARGIN}.get(kind, 0.0) * black[:, None, None]
    z = np.sqrt(0.5) * rng.normal(size=(patients, 1, 1)) + np.sqrt(0.5) * rng.normal(size=(patients, 2, 4))
    log = np.log1p(0.4**2)
    shape = np.exp(np.sqrt(log) * z - log / 2) - 1 if kind == "skewed" else 0.4 * z
    dice = 0.94 - 0.05 * shape * wider - lower
    if kind == "failures":
        dice[rng.random(dice.shape) < 0.005] = 0.0
    rows = [
        {"case_id": f"{p}{side}", "patient_id": f"p{p}x", "structure": name, "dice": dice[p, k, s]}
        | about.iloc[p].to_dict()
        for p in range(patients)
        for k, side in enumerate("LR")
        for s, name in enumerate(STRUCTURES)
    ]
    return pd.DataFrame(rows).assign(dice=lambda table: table["dice"].clip(0, 1))


def claims(kind: str, seed: int, draws: int = 499) -> dict[str, bool]:
    """What the report of one cohort's audit claims."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "scores.csv"
        cohort(kind, seed).to_csv(path, index=False)
        settings = audit.Settings(draws=draws, seed=seed, equivalence_margin={"dice": MARGIN})
        report = audit.table(path, ATTRIBUTES, settings=settings).report
    differs = {"race"} if kind in ("race", "edge") else set()
    members = [one for one in report["primary"]["hypotheses"] if one["p_adjusted"] < family.LEVEL]
    false = [one for one in members if one["kind"] != family.MEAN or one["attribute"] not in differs]
    verdicts = [one for one in summary.verdicts(report) if one.groups.key not in differs]
    return {
        "any false claim": bool(false),
        **{
            f"claims: {name}": any(one["kind"] == name for one in false)
            for name in (
                family.MEAN,
                family.FAILURE,
                family.SMALL_MEAN,
                family.SMALL_FAILURE,
                family.INTERACTION,
            )
        },
        "names a pair without a difference": any(one.pairs for one in verdicts),
        "test and interval disagree": bool(disagreements(report)),
        "equivalent at the margin": any(
            one.equivalence == "equivalent" for one in summary.verdicts(report) if one.groups.key in differs
        ),
    }


def disagreements(report: dict[str, Any]) -> list[str]:
    """The corrected p values of the primary family that their interval contradicts."""
    names = []

    def compare(name: str, p: float | None, ends: list[float] | None) -> None:
        if p is not None and ends and (p < family.LEVEL) != (ends[0] > 0 or ends[1] < 0):
            names.append(name)

    for key, entry in report["scores"]["dice"]["summaries"].items():
        if entry["test"]:
            gap = entry["gap_without_failures"]
            compare(f"gap by {key}", entry["test"]["p_holm"], gap["interval_adjusted"])
        for pair in entry["pairs"]:
            compare(f"{pair['first']} - {pair['second']}", pair["p_holm"], pair["interval_adjusted"])
    for key, one in report["rates"]["endpoints"]["failure"]["comparisons"].items():
        differences = [pair["difference"] for pair in one["pairs"]] + list(one["unranked"].values())
        for test in differences:
            compare(f"failures by {key}", test["p_adjusted"], test["interval_adjusted"])
    for key, by_score in report["interactions"].items():
        if "dice" in by_score:
            compare(f"interaction {key}", by_score["dice"]["p_holm"], by_score["dice"]["interval_adjusted"])
    return names


def measure(kind: str, cohorts: int) -> dict[str, Any]:
    """The share of pages with each claim."""
    start = time.perf_counter()
    counts: Counter[str] = Counter()
    for seed in range(cohorts):
        counts.update({name: int(claimed) for name, claimed in claims(kind, seed).items()})
    share = {name: count / cohorts for name, count in counts.items()}
    return {"cohorts": cohorts, "seconds": time.perf_counter() - start, "share": share}


def main() -> None:
    """Prints the shares and writes them as JSON."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--out", type=Path, default=Path(__file__).parent / "results" / "calibration_pages.json"
    )
    parser.add_argument("--cohorts", type=int, default=400)
    parser.add_argument("--kinds", nargs="+", default=list(KINDS), choices=KINDS)
    parser.add_argument("--jobs", type=int, default=os.cpu_count())
    options = parser.parse_args()
    results = json.loads(options.out.read_text())["kinds"] if options.out.exists() else {}
    options.out.parent.mkdir(parents=True, exist_ok=True)
    about = {"hardware": hardware(), "environment": run_directory.environment()}
    with ProcessPoolExecutor(options.jobs, get_context("spawn")) as pool:
        for kind, result in zip(
            options.kinds, pool.map(partial(measure, cohorts=options.cohorts), options.kinds), strict=True
        ):
            results[kind] = result
            print(f"{kind}: {result['cohorts']} cohorts in {result['seconds']:.0f} s")
            for name, share in result["share"].items():
                print(f"  {name}: {100 * share:.1f} %", flush=True)
            atomic.write_json(options.out, about | {"kinds": results})


if __name__ == "__main__":
    main()
