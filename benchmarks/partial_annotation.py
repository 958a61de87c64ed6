"""Train on masks of the femur alone beside masks of four bones, and on masks of four bones of the same films.

    python -m benchmarks.partial_annotation [--seeds 0,1,2] [--kinds complete,partial]

Phantoms of configs/quickstart.py with overlap classes, in a smaller picture and for more steps. `partial`: the
training masks of half of the patients show the whole femur alone, as an annotator would draw it, and the table says so
(`data.annotated_column`). `complete`: all masks show four bones. `background`: as `partial`, but the table does not say
so, so that the other bones count as background. Test masks always show four bones. Dice is the mean over test cases.
"""

import argparse
import itertools
import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from ml_collections import ConfigDict
from scipy import stats

from benchmarks.machine import conditions
from benchmarks.time_to_quality import STEPS_PER_CALL, JaxTraining
from configs import quickstart
from kneefair_jax import anatomy
from kneefair_jax.data import annotations, cohort_loader, pipeline, store
from kneefair_jax.data.cohort_loader import Cohort
from kneefair_jax.data.pipeline import Arrays
from kneefair_jax.runtime import atomic
from kneefair_jax.training import scoring

ANNOTATED = ("whole femur",)
KINDS = ("complete", "partial", "background")


class Masks:
    """Prepared cases, of which some masks show the whole femur alone.

    Args:
        cases: with masks of all structures.
        femur_alone: bool[N], whose masks show the femur alone.
        columns: further entries of a case, [N] each.
        femur: the labels of the femur; the mask has the first one.
    """

    def __init__(self, cases: Arrays, femur_alone: np.ndarray, columns: dict[str, np.ndarray], femur: Any):
        self._cases, self._femur_alone, self._columns, self._femur = cases, femur_alone, columns, femur

    def __len__(self) -> int:
        return len(self._cases)

    def __getitem__(self, row: int) -> dict[str, np.ndarray]:
        case = dict(self._cases[row])
        if self._femur_alone[row]:
            inside = np.isin(case["label"], self._femur)
            case["label"] = np.where(inside, self._femur[0], 0).astype(np.uint8)
        return case | {name: np.asarray(values[row]) for name, values in self._columns.items()}


def configure(side: int, patients: int, steps: int) -> ConfigDict:
    """The quick start with overlap classes."""
    config = quickstart.get_config()
    config.data.size = (side, side)
    config.data.phantom.patients = patients
    config.data.phantom.structures = "knee_overlaps"
    config.train.steps = config.train.eval_every = steps
    return config


def of_kind(kind: str, cohort: Cohort, cases: Arrays) -> tuple[Cohort, Arrays]:
    """The cohort and its cases, with masks of one of `KINDS`; half of the patients may show the femur alone."""
    patients = cohort.cases["patient_id"].unique()
    chosen = np.random.default_rng(0).permutation(patients)[: len(patients) // 2]
    is_chosen = cohort.cases["patient_id"].isin(chosen) & (cohort.cases["split"] != "test")
    femur_alone = is_chosen.to_numpy() & (kind != "complete")
    if kind == "partial":
        names = [ANNOTATED if alone else () for alone in femur_alone]
        cohort = cohort._replace(cases=cohort.cases.assign(**{annotations.COLUMN: names}))
    columns = {"annotation": cohort.annotations.kind} if cohort.annotations else {}
    femur = np.flatnonzero(anatomy.membership(cohort.structures, ANNOTATED)[0])
    return cohort, pipeline.CachedCases(Masks(cases, femur_alone, columns, femur))


def train(config: ConfigDict, cohort: Cohort, cases: Arrays) -> list[float]:
    """Train, and return the mean Dice of the test cases by structure of `anatomy.scored_structures`."""
    training = JaxTraining(config, cohort, cases)
    batches = training.batches()
    for _ in range(config.train.steps // STEPS_PER_CALL):
        training.steps(list(itertools.islice(batches, STEPS_PER_CALL)))
    scores = scoring.predict_cases(
        training.experiment.eval_step,
        training.state.variables,
        cases,
        cohort.rows("test"),
        group=training.experiment.partition.index,
        batch_size=config.train.batch_size,
    )
    return [float(value) for value in np.nanmean(scores["dice"], axis=0)]


def differences(runs: dict[str, list[list[float]]]) -> dict[str, dict[str, Any]]:
    """Mean difference from `complete` by seed and structure, with its 95 % t interval over the seeds."""
    result = {}
    for kind in [kind for kind in KINDS[1:] if kind in runs]:
        gaps = np.subtract(runs[kind], runs["complete"])
        margin = stats.t.ppf(0.975, len(gaps) - 1) * stats.sem(gaps) if len(gaps) > 1 else np.nan
        mean = gaps.mean(0)
        result[kind] = {
            "difference": mean.tolist(),
            "interval": [(mean - margin).tolist(), (mean + margin).tolist()],
        }
    return result


def main() -> None:
    """Train all kinds for each seed, print the result and write it as JSON."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", default="0,1,2", metavar="N,...")
    parser.add_argument("--kinds", default=",".join(KINDS), help="`complete` among them")
    parser.add_argument("--side", type=int, default=64)
    parser.add_argument("--patients", type=int, default=400)
    parser.add_argument("--steps", type=int, default=1500)
    parser.add_argument(
        "--out", type=Path, default=Path(__file__).parent / "results" / "partial_annotation.json"
    )
    options = parser.parse_args()
    kinds = options.kinds.split(",")
    if KINDS[0] not in kinds or set(kinds) - set(KINDS):
        parser.error(f"--kinds {options.kinds}: give some of {','.join(KINDS)}, the first one among them")
    config = configure(options.side, options.patients, options.steps)
    result: dict[str, Any] = {
        **conditions(),
        "side": options.side,
        "steps": options.steps,
    }
    runs: dict[str, list[list[float]]] = {kind: [] for kind in KINDS if kind in kinds}
    with tempfile.TemporaryDirectory() as folder:
        cohort = cohort_loader.load(config.data, config.data.seed)
        prepared, _ = cohort_loader.prepare(
            config.data, config.data.seed, cohort, None, Path(folder), store.Options()
        )
        result["cases"] = prepared.cohort.cases["split"].value_counts().to_dict()
        result["structures"] = anatomy.scored_structures(prepared.cohort.structures)
        for seed in map(int, options.seeds.split(",")):
            config.seed = seed
            for kind in runs:
                runs[kind].append(train(config, *of_kind(kind, prepared.cohort, prepared.cases)))
                print(
                    f"seed {seed}, {kind}: " + " ".join(f"{value:.4f}" for value in runs[kind][-1]),
                    flush=True,
                )
    result |= {"dice": runs, "against complete": differences(runs)}
    print(json.dumps(result["against complete"], indent=1))
    atomic.write_json(options.out, result)


if __name__ == "__main__":
    main()
