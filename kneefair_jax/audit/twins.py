"""Twins: the same phantom knee on two films that differ by one planted switch alone.

Both films have one key, so shape, pose, noise and all else are equal (`data.phantom.case.draw_case`): the difference of
a predictor's scores is the exact effect of the switch on this knee. Groups of patients differ in many ways at once;
twins show which one a predictor is sensitive to (individual fairness, Dwork et al. 2012, DOI 10.1145/2090236.2090255).
"""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import jax
import numpy as np
import pandas as pd
from scipy import stats

from kneefair_jax import anatomy, measurements
from kneefair_jax.data.phantom import case
from kneefair_jax.errors import InputError
from kneefair_jax.measurements import MEASUREMENTS
from kneefair_jax.runtime import progress

# Those that change the film; `annotation` changes the mask alone, and `representation` the cohort.
SWITCHES = ("morphology", "contrast", "noise", "soft_tissue", "osteophytes", "marker")
MEASURED = ("jsw_min_medial", "jsw_min_lateral", "fta", "bicondylar_width")
_STRUCTURES = anatomy.SCHEMES["knee_overlaps"]
type Segment = Callable[[np.ndarray], Mapping[str, np.ndarray]]


class Films(NamedTuple):
    """The films of a study of twins.

    Attributes:
        size: pixels (H, W).
        fov_mm: field of view down and across.
        seed: of the knees; the same seed draws the same ones.
    """

    size: tuple[int, int] = (512, 512)
    fov_mm: float = 180.0
    seed: int = 0


DEFAULT_FILMS = Films()


def study(
    segment: Segment, knees: int, switches: Sequence[str] = SWITCHES, films: Films = DEFAULT_FILMS
) -> pd.DataFrame:
    """Score a predictor on twins.

    Args:
        segment: a film u8[H, W] -> the whole bones of `measurements.BONES` that the predictor segments, bool[H, W]
            each.
        knees: number of knees, right and left in turn.
        switches: of `SWITCHES`.
        films: how they are drawn.

    Returns:
        A row per switch, knee and score: `switch`, `knee`, `score` (`dice femur`, ..., and `error fta`, ..., the
        absolute error against the film's own exact mask), `unit`, `baseline` and `with_switch`, and their
        difference `change`; NaN where a score is undefined.

    Raises:
        InputError: an unknown switch, or fewer than two knees.
    """
    if unknown := [name for name in switches if name not in SWITCHES]:
        raise InputError(f"switch {unknown[0]!r}: give some of {', '.join(SWITCHES)}")
    if knees < 2:
        raise InputError(f"{knees} knees: give 2 or more")
    switches = list(dict.fromkeys(switches))
    spacing = (films.fov_mm / films.size[0], films.fov_mm / films.size[1])

    def draw(key: jax.Array, knee: int, strengths: jax.Array) -> case.Phantom:
        bias = case.Bias()._replace(**dict(zip(SWITCHES, strengths, strict=True)))
        return case.draw_case(key, knee, bias, size=films.size, fov_mm=films.fov_mm, overlaps=True)

    film, keys = jax.jit(draw), jax.random.split(jax.random.key(films.seed), knees)
    rows = []
    for knee, key in enumerate(progress.track(keys, knees, "scoring twins", "knees")):
        side = knee % 2
        baseline = _score(segment, film(key, side, np.zeros(len(SWITCHES), np.float32)), spacing)
        for switch in switches:
            strengths = np.array([name == switch for name in SWITCHES], np.float32)
            with_switch = _score(segment, film(key, side, strengths), spacing)
            rows += [
                (switch, knee, score, _unit(score), baseline[score], with_switch[score])
                for score in baseline.keys() & with_switch.keys()
            ]
    table = pd.DataFrame(rows, columns=["switch", "knee", "score", "unit", "baseline", "with_switch"])
    table["change"] = table["with_switch"] - table["baseline"]
    return table.sort_values(["switch", "score", "knee"], ignore_index=True)


def effects(table: pd.DataFrame) -> pd.DataFrame:
    """Return the mean change of each score by each switch, with its 95 % interval over knees (Student's t).

    Args:
        table: of `study`.

    Returns:
        A row per switch and score, in the order of the switches: `switch`, `score`, `unit`, `mean`, `low`, `high` and
        `knees`, the number that have the score with and without the switch; the ends are NaN for fewer than two.
    """
    rows = []
    for (switch, score, unit), part in table.groupby(["switch", "score", "unit"], sort=False):
        changes = part["change"].dropna().to_numpy()
        mean = float(changes.mean()) if len(changes) else float("nan")
        half = float("nan")
        if len(changes) > 1:
            half = float(stats.t.ppf(0.975, len(changes) - 1) * stats.sem(changes))
        rows.append((switch, score, unit, mean, mean - half, mean + half, len(changes)))
    result = pd.DataFrame(rows, columns=["switch", "score", "unit", "mean", "low", "high", "knees"])
    order = result["switch"].map(SWITCHES.index)
    return result.iloc[np.lexsort((result["score"], order))].reset_index(drop=True)


def _score(segment: Segment, film: case.Phantom, spacing: tuple[float, float]) -> dict[str, float]:
    """Return Dice by whole bone, and the absolute errors of measurements, of the bones that are segmented."""
    truth = measurements.whole_bones(np.asarray(film.exact), _STRUCTURES)
    predicted = segment(np.asarray(film.image))
    scores = {f"dice {bone}": _dice(predicted[bone], truth[bone]) for bone in truth if bone in predicted}
    knee = measurements.trace(truth, spacing)
    # A prediction without a fibula is measured on the side of the drawn knee.
    predicted_knee = measurements.trace(predicted, spacing, knee.side)
    exact, values = measurements.measure_knee(knee), measurements.measure_knee(predicted_knee)
    return scores | {f"error {name}": abs(values[name].value - exact[name].value) for name in MEASURED}


def _dice(prediction: np.ndarray, truth: np.ndarray) -> float:
    total = int(prediction.sum() + truth.sum())
    return 2 * int((prediction & truth).sum()) / total if total else float("nan")


def _unit(score: str) -> str:
    return MEASUREMENTS[score.removeprefix("error ")].unit if score.startswith("error ") else ""
