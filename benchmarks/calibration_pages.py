"""How often does a page claim what is not there? The opening of the audits of cohorts without any true difference.

    python benchmarks/calibration_pages.py

Each cohort has 150 patients, two knees each, 4 structures and 3 attributes of 2, 2 and 3 levels that have nothing to do
with the scores (but for their spread, in `spread`). It goes through the public audit call, and its opening is searched
for claims. `race` has a true difference by one attribute and no interaction.
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
ATTRIBUTES = ("sex", "race", "age")
KINDS = ("normal", "skewed", "spread", "failures", "race")


def cohort(kind: str, seed: int) -> pd.DataFrame:
    """The long table of scores of one cohort."""
    rng = np.random.default_rng([KINDS.index(kind), seed])
    about = pd.DataFrame(
        {
            "sex": rng.choice(["female", "male"], PATIENTS),
            "race": rng.choice(["White", "Black"], PATIENTS, p=[0.75, 0.25]),
            "age": rng.choice(["<=50", "51-64", ">=65"], PATIENTS, p=[0.15, 0.45, 0.4]),
        }
    )
    black = (about["race"] == "Black").to_numpy()
    wider = np.where(black & (kind == "spread"), 2.0, 1.0)[:, None, None]
    z = np.sqrt(0.5) * rng.normal(size=(PATIENTS, 1, 1)) + np.sqrt(0.5) * rng.normal(size=(PATIENTS, 2, 4))
    log = np.log1p(0.4**2)
    shape = np.exp(np.sqrt(log) * z - log / 2) - 1 if kind == "skewed" else 0.4 * z
    dice = 0.95 - 0.05 * shape * wider - 0.03 * (black & (kind == "race"))[:, None, None]
    if kind == "failures":
        dice[rng.random(dice.shape) < 0.005] = 0.0
    rows = [
        {"case_id": f"{p}{side}", "patient_id": f"p{p}x", "structure": name, "dice": dice[p, k, s]}
        | about.iloc[p].to_dict()
        for p in range(PATIENTS)
        for k, side in enumerate("LR")
        for s, name in enumerate(STRUCTURES)
    ]
    return pd.DataFrame(rows).assign(dice=lambda table: table["dice"].clip(0, 1))


def claims(kind: str, seed: int, draws: int = 999) -> dict[str, bool]:
    """What the opening of one cohort's audit claims."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "scores.csv"
        cohort(kind, seed).to_csv(path, index=False)
        settings = audit.Settings(draws=draws, seed=seed, delta={"dice": 0.02})
        report = audit.table(path, ATTRIBUTES, settings=settings).report
    members = report["primary"]["hypotheses"]
    kinds = {one["kind"] for one in members if one["p_adjusted"] < family.LEVEL}
    verdicts = summary.judged(report)
    return {
        "any claim": bool(kinds),
        **{f"claims: {name}": name in kinds for name in (family.MEAN, family.FAILURE, family.INTERACTION)},
        "names a pair": any(one.pairs for one in verdicts),
        "significant without a pair": any(one.kind == "unlocated" for one in verdicts),
        "equivalent": any(one.equivalence == "equivalent" for one in verdicts),
    }


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
    with ProcessPoolExecutor(options.jobs) as pool:
        for kind, result in zip(
            options.kinds, pool.map(partial(measure, cohorts=options.cohorts), options.kinds), strict=True
        ):
            results[kind] = result
            print(f"{kind}: {result['cohorts']} cohorts in {result['seconds']:.0f} s")
            for name, share in result["share"].items():
                print(f"  {name}: {100 * share:.1f} %", flush=True)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    about = {"hardware": hardware(), "environment": run_directory.environment()}
    atomic.write_json(options.out, about | {"kinds": results})


if __name__ == "__main__":
    main()
