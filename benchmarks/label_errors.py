"""Measure how well `kneefair check` finds planted label errors, among phantoms and films of real bones.

    python -m benchmarks.label_errors [BONES PROJECT.py --workdir DIR]

Of each cohort none, 5, 20 or 40 % of the masks are made wrong in one way, or in one of all ways each; the rest are as
drawn. Phantoms are clinical, of a seed that the network never saw. BONES and PROJECT.py are those of
`benchmarks.real_bones`; films in DIR are kept. The AUC is that of a planted case's score above another's; its interval
is over repetitions, which choose other cases (2.5 to 97.5 %).
"""

import argparse
import functools
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from ml_collections import ConfigDict
from PIL import Image
from sklearn.metrics import roc_auc_score

from benchmarks import real_bones
from benchmarks.machine import hardware
from kneefair_jax import anatomy, label_errors
from kneefair_jax.data import phantom
from kneefair_jax.runtime import atomic, run_directory

SEED = 770_011
SHARES = (0.05, 0.2, 0.4)
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


def _incomplete(
    masks: np.ndarray, row: int, rng: np.random.Generator, structures: tuple[str, ...]
) -> np.ndarray:
    """Without half of a structure: its upper, lower, left or right one."""
    chosen = masks[row] == rng.choice(np.unique(masks[row])[1:])
    place = np.indices(chosen.shape)[rng.integers(2)]
    middle = np.median(place[chosen])
    is_gone = chosen & (place <= middle if rng.integers(2) else place >= middle)
    return np.where(is_gone, 0, masks[row])


FAULTS: dict[str, Fault] = {
    "shuffled": _shuffled,
    "shifted": _shifted,
    "swapped": _swapped,
    "missing": _missing,
    "incomplete": _incomplete,
}
# What each fault's reason is recognised by.
WORDS = {
    "shuffled": ("another film",),
    "shifted": ("moved",),
    "swapped": ("exchanged", "mirrored"),
    "missing": ("missing",),
    "incomplete": ("differs", "missing"),
}


def phantoms(name: str, cases: int) -> tuple[list[np.ndarray], np.ndarray, tuple[str, ...]]:
    """Films u8[H, W, 1], masks u8[N, H, W], and the structures of one of `COHORTS`."""
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
    drawn = list(source.read(range(cases)))
    return [case.image for case in drawn], np.stack([case.label for case in drawn]), source.structures


def projections(
    bones: Path, script: Path, workdir: Path
) -> tuple[list[np.ndarray], np.ndarray, tuple[str, ...]]:
    """Films u8[H, W, 1], masks u8[N, H, W] and structures of films of real bones, two seeds."""
    structures = ("femur", "tibia", "patella")
    table = np.array([0, 1, 2, 0, 3], np.uint8)  # from the labels of the script
    images, masks = [], []
    for seed in (0, 1):
        folder = real_bones.films(bones, script, workdir, seed, real_bones.FILMS)
        for path in sorted((folder / "images").iterdir()):
            images.append(np.asarray(Image.open(path))[..., None])
            masks.append(table[np.asarray(Image.open(folder / "masks" / path.name))])
    return images, np.stack(masks), structures


def ranked(
    masks: np.ndarray, predictions: Sequence[label_errors.Pair], structures: tuple[str, ...]
) -> label_errors.Ranking:
    """As `--mode=check` ranks them."""

    def read(rows: Sequence[int]) -> Iterator[label_errors.Pair]:
        return (predictions[row]._replace(label=masks[row]) for row in rows)

    return label_errors.rank(read, [str(row) for row in range(len(masks))], structures)


def planted(
    masks: np.ndarray,
    predictions: Sequence[label_errors.Pair],
    structures: tuple[str, ...],
    kinds: Sequence[str],
    share: float,
    seed: int,
) -> dict[str, float]:
    """Return AUC, detection rate, false alarms and rate of right reasons of one cohort with faults."""
    rng = np.random.default_rng(seed)
    rows = rng.permutation(len(masks))[: round(share * len(masks))]
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


def measure(
    films: Sequence[np.ndarray],
    masks: np.ndarray,
    structures: tuple[str, ...],
    checkpoint: str,
    repetitions: int,
) -> dict[str, Any]:
    """All faults at all rates in one cohort, and the cohort without any."""
    compare = label_errors.comparison(structures, checkpoint)
    pairs = [
        pair
        for first in range(0, len(films), label_errors.BATCH)
        for pair in compare(
            films[first : first + label_errors.BATCH], masks[first : first + label_errors.BATCH]
        )
    ]
    masks = np.stack([pair.label for pair in pairs])
    clean = ranked(masks, pairs, structures)
    entry: dict[str, Any] = {
        "median_dice": clean.median_dice,
        "clean": {"false_alarms": len(clean.label_errors), "of": len(films)},
        "clean_reasons": [one.reason for one in clean.label_errors],
    }
    for fault, kinds in ({kind: (kind,) for kind in FAULTS} | {"all together": tuple(FAULTS)}).items():
        entry[fault] = {}
        for share in SHARES:
            each = [planted(masks, pairs, structures, kinds, share, seed) for seed in range(repetitions)]
            means = {key: float(np.mean([one[key] for one in each])) for key in each[0]}
            interval = np.quantile([one["auc"] for one in each], (0.025, 0.975)).tolist()
            entry[fault][f"{share:g}"] = means | {"auc_interval": interval}
    return entry


def main() -> None:
    """Prints what it finds and writes it as JSON."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("bones", type=Path, nargs="?")
    parser.add_argument("script", type=Path, nargs="?")
    parser.add_argument("--workdir", type=Path, help="of the films of real bones")
    parser.add_argument("--checkpoint", default=label_errors.AUTO)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "label_errors.json")
    parser.add_argument("--cases", type=int, default=400, help="phantoms of each cohort")
    parser.add_argument("--repetitions", type=int, default=10)
    options = parser.parse_args()
    about = {
        "hardware": hardware(),
        "environment": run_directory.environment(),
        "checkpoint": options.checkpoint,
        "seed": SEED,
        "shift_pixels": SHIFT,
        "repetitions": options.repetitions,
    }
    cohorts = {name: functools.partial(phantoms, name, options.cases) for name in COHORTS}
    if options.bones:
        cohorts["real bones"] = functools.partial(projections, options.bones, options.script, options.workdir)
    results = {}
    for name, read in cohorts.items():
        entry = results[name] = measure(*read(), options.checkpoint, options.repetitions)
        print(f"{name}: clean cohort, {entry['clean']['false_alarms']} of {entry['clean']['of']} flagged")
        for fault in (*FAULTS, "all together"):
            for share, one in entry[fault].items():
                print(
                    f"  {fault:13s} {share:5s} AUC {one['auc']:.4f} {np.round(one['auc_interval'], 4)}  "
                    f"detected {one['detected']:.3f}  false alarms {one['false_alarms']:.3f}  "
                    f"right reason {one['right_reason']:.3f}",
                    flush=True,
                )
    atomic.write_json(options.out, about | {"cohorts": results})


if __name__ == "__main__":
    main()
