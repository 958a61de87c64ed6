"""Measure how well the shipped network ranks planted label errors among the masks of a phantom cohort.

    python benchmarks/label_errors.py

Clinical phantoms of a seed that the network never saw. Of each cohort's masks 10 % are made wrong in one way, or in one
of all ways each; the rest are as drawn. The AUC is that of a planted case's score above another's; its interval is over
repetitions, which choose other cases (2.5 to 97.5 %).
"""

import argparse
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from ml_collections import ConfigDict
from sklearn.metrics import roc_auc_score

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.machine import hardware
from kneefair_jax import anatomy, label_errors, predict
from kneefair_jax.data import phantom
from kneefair_jax.predict import prediction
from kneefair_jax.runtime import atomic, run_directory

SEED = 770_011
SHARE = 0.1
SHIFT = 8
COHORTS = {  # size, field of view in mm, both knees
    "128 x 128": ((128, 128), 140.0, False),
    "256 x 256": ((256, 256), 140.0, False),
    "both knees, 128 x 256": ((128, 256), 200.0, True),
}
Fault = Callable[[np.ndarray, int, np.random.Generator, tuple[str, ...]], np.ndarray]


def _shuffled(
    masks: np.ndarray, row: int, rng: np.random.Generator, structures: tuple[str, ...]
) -> np.ndarray:
    row_offset = rng.integers(len(masks) - 1)
    return masks[row_offset + (row_offset >= row)]


def _shifted(
    masks: np.ndarray, row: int, rng: np.random.Generator, structures: tuple[str, ...]
) -> np.ndarray:
    down, right = SHIFT * np.array([(0, 1), (0, -1), (1, 0), (-1, 0)])[rng.integers(4)]
    height, width = masks[row].shape
    padded = np.pad(masks[row], SHIFT)
    return padded[SHIFT - down : SHIFT - down + height, SHIFT - right : SHIFT - right + width]


def _swapped(
    masks: np.ndarray, row: int, rng: np.random.Generator, structures: tuple[str, ...]
) -> np.ndarray:
    """Left for right: the labels where sides have labels, else the picture."""
    table = anatomy.flip_table(structures)
    if (table != np.arange(len(table))).any():
        return table[masks[row]].astype(np.uint8)
    return masks[row][:, ::-1]


def _missing(
    masks: np.ndarray, row: int, rng: np.random.Generator, structures: tuple[str, ...]
) -> np.ndarray:
    gone = rng.choice(np.unique(masks[row])[1:])
    return np.where(masks[row] == gone, 0, masks[row])


FAULTS: dict[str, Fault] = {
    "shuffled": _shuffled,
    "shifted": _shifted,
    "swapped": _swapped,
    "missing": _missing,
}
# What each fault's reason is recognised by.
WORDS = {
    "shuffled": ("another film",),
    "shifted": ("moved",),
    "swapped": ("exchanged", "mirrored"),
    "missing": ("missing",),
}


def cohort(name: str, cases: int) -> tuple[np.ndarray, np.ndarray, tuple[str, ...]]:
    """Masks and the network's, u8[N, H, W], and the structures."""
    size, fov, is_bilateral = COHORTS[name]
    settings = ConfigDict(
        {
            "patients": cases,
            "knees_per_patient": 1 + is_bilateral,
            "bilateral": is_bilateral,
            "masks": "annotated",
            "attributes": {"sex": {"female": 0.5, "male": 0.5}},
            "bias": {},
            "fov_mm": (fov, fov),
            "randomisation": (0.0, 0.0),
        }
    )
    source = phantom.source(settings, size=size, seed=SEED)
    predictor = predict.load("phantom", raw=True)  # as `label_errors.compare`
    masks, predictions = [], []
    for start in range(0, cases, 100):
        film_cases = list(source.read(range(start, min(start + 100, cases))))
        films = [case.image for case in film_cases]
        predictions_of_batch = predictor.predict(
            [half for film in films for half in prediction.halves_of(film)] if is_bilateral else films
        )
        if is_bilateral:
            predictions_of_batch = [
                prediction.join_halves(*predictions_of_batch[k : k + 2])
                for k in range(0, len(predictions_of_batch), 2)
            ]
        masks += [case.label for case in film_cases]
        predictions += [one.mask for one in predictions_of_batch]
    return np.stack(masks), np.stack(predictions), source.structures


def ranked(masks: np.ndarray, predictions: np.ndarray, structures: tuple[str, ...]) -> label_errors.Ranking:
    """As `--mode=check` ranks them."""

    def read(rows: Sequence[int]) -> Iterator[label_errors.Pair]:
        return (label_errors.Pair(masks[row], predictions[row]) for row in rows)

    return label_errors.rank(read, [str(row) for row in range(len(masks))], structures)


def planted(
    masks: np.ndarray, predictions: np.ndarray, structures: tuple[str, ...], kinds: Sequence[str], seed: int
) -> dict[str, Any]:
    """Return AUC, detection rate, false alarms and rate of right reasons of one cohort with faults."""
    rng = np.random.default_rng(seed)
    rows = rng.permutation(len(masks))[: round(SHARE * len(masks))]
    wrong, kind_of = masks.copy(), {}
    for number, row in enumerate(rows):
        kind_of[int(row)] = kinds[number % len(kinds)]
        wrong[row] = FAULTS[kind_of[int(row)]](masks, int(row), rng, structures)
    ranking = ranked(wrong, predictions, structures)
    faulty = np.isin(np.arange(len(masks)), rows)
    detected = [one for one in ranking.label_errors if one.row in kind_of]
    explained = [one for one in detected if any(word in one.reason for word in WORDS[kind_of[one.row]])]
    return {
        "auc": float(roc_auc_score(faulty, ranking.scores)),
        "detected": len(detected) / len(rows),
        "false_alarms": (len(ranking.label_errors) - len(detected)) / (len(masks) - len(rows)),
        "right_reason": len(explained) / max(len(detected), 1),
    }


def measure(cases: int, repetitions: int) -> dict[str, Any]:
    """All faults in all cohorts, and the cohorts without any."""
    results: dict[str, Any] = {}
    for name in COHORTS:
        masks, predictions, structures = cohort(name, cases)
        clean = ranked(masks, predictions, structures)
        entry: dict[str, Any] = {
            "median_dice": clean.median_dice,
            "clean": {"false_alarms": len(clean.label_errors), "of": cases},
            "clean_reasons": [one.reason for one in clean.label_errors],
        }
        for fault, kinds in ({kind: (kind,) for kind in FAULTS} | {"all together": tuple(FAULTS)}).items():
            each = [planted(masks, predictions, structures, kinds, seed) for seed in range(repetitions)]
            aucs = [one["auc"] for one in each]
            entry[fault] = {key: float(np.mean([one[key] for one in each])) for key in each[0]}
            entry[fault]["auc_interval"] = np.quantile(aucs, (0.025, 0.975)).tolist()
        results[name] = entry
    return results


def main() -> None:
    """Prints what it finds and writes it as JSON."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "label_errors.json")
    parser.add_argument("--cases", type=int, default=400)
    parser.add_argument("--repetitions", type=int, default=10)
    options = parser.parse_args()
    about = {
        "hardware": hardware(),
        "environment": run_directory.environment(),
        "seed": SEED,
        "share": SHARE,
        "shift_pixels": SHIFT,
        "cases": options.cases,
        "repetitions": options.repetitions,
    }
    cohorts = measure(options.cases, options.repetitions)
    atomic.write_json(options.out, about | {"cohorts": cohorts})
    for name, entry in cohorts.items():
        print(f"{name}: clean cohort, {entry['clean']['false_alarms']} of {options.cases} flagged")
        for fault in (*FAULTS, "all together"):
            one = entry[fault]
            print(
                f"  {fault:13s} AUC {one['auc']:.4f} {np.round(one['auc_interval'], 4)}  "
                f"detected {one['detected']:.3f}  false alarms {one['false_alarms']:.3f}  "
                f"right reason {one['right_reason']:.3f}"
            )


if __name__ == "__main__":
    main()
