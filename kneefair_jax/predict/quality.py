"""How good a mask is, without a reference mask: predicted Dice of each structure, and rules of anatomy.

The soft Dice of a mask A with the network's probabilities p, 2 sum_A p / (|A| + sum p), is close to the expected Dice
if the probabilities are calibrated (the soft Dice confidence of Borges et al. 2024, arXiv 2402.10665). They are not on
films unlike the training images, so a line on log odds maps it to the Dice of cases with reference masks, and the
residuals of those cases give an interval. `NAME.json` of a calibrated network has a line for each structure.

The rules flag masks that cannot show one knee from the front, of any network. `benchmarks/plausibility.py` tests both.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from scipy import ndimage, special

SIDES = ("right", "left")  # of the patient, from image left to image right
# A film may show no fibula, as many crops do.
OPTIONAL_BONE = "fibula"
BONES = ("femur", "tibia", OPTIONAL_BONE, "patella")
# The smallest share of a knee's bone, about half of the smallest in 160 clinical phantoms, since a film may be cropped.
# It does not apply to a bone that the film's edge cuts elsewhere than at its shaft.
MIN_SHARE = {"femur": 0.13, "tibia": 0.17, "patella": 0.06}
MIN_OPTIONAL_SHARE = 0.03  # of the fibula; in 64 phantoms upside down, none had more than 0.026
SHAFT_SIDES = {"femur": "top", "tibia": "bottom"}
# The largest share of a bone outside its largest piece: in those 160 masks at most 0.009, in 96 pictures of two knees
# side by side at least 0.41 of the femur.
MAX_DETACHED_SHARE = 0.25
# The smallest width of the tibia over that of the femur: from the front 0.87 or more in 96 films of real bones and in
# 99 % of 200 clinical phantoms, from the side at most 0.86 in 97 % of 32 films.
MIN_WIDTH_RATIO = 0.86
# Mean absolute difference of an image and its mirror image, as a share of its mean absolute deviation.
MIRROR_TOLERANCE = 0.05
MIRROR_ROWS = 64  # rows that are compared
ROTATIONS = {1: "on its side", 2: "upside down", 3: "on its side"}  # quarter turns, counterclockwise
# Share of the calibration's cases in the intervals: most, since films from elsewhere differ from these.
COVERAGE = 0.98
MIN_CASES = 50
TURN_CHECKS = 12  # films that are compared with turned ones, for each film that gets a warning
# Log odds from the quantile of a single structure to its limit. Films from elsewhere may show one structure less
# clearly: the tibiae of 3 % of 96 films of real bones lie below the quantile of phantoms.
MARGIN = 2.0
NO_LIMIT = -100.0  # log odds below those of any film
_NEAREST = 1e-4  # of Dice to 0 and 1, for log odds


class Interval(NamedTuple):
    """A predicted Dice, and the ends of its interval, which holds the share `COVERAGE` of the calibration's cases."""

    value: float
    low: float
    high: float


class Line(NamedTuple):
    """Log odds of Dice by log odds of soft Dice, of a structure.

    Attributes:
        intercept: at soft log odds 0.
        slope: 0 or more.
        low: distance in log odds from the line to the interval's lower end, usually negative.
        high: the same to its upper end.
        limit: soft log odds below which the structure gets a warning.
    """

    intercept: float
    slope: float
    low: float
    high: float
    limit: float


class Total(NamedTuple):
    """Limits of the sum of soft log odds over structures.

    Attributes:
        names: of the structures.
        limit: a lower sum gets a warning.
        suspect: with a lower sum, turned images are compared.
    """

    names: tuple[str, ...]
    limit: float
    suspect: float


class Calibration(NamedTuple):
    """The calibration of a network: a line by structure, and the limits of their sum."""

    lines: Mapping[str, Line]
    total: Total


def read_calibration(fields: Mapping[str, Any]) -> Calibration:
    """Return the calibration that `NAME.json` describes in its field `quality`."""
    lines = {name: Line(**line) for name, line in fields["structures"].items()}
    total = fields["total"]
    return Calibration(lines, Total(tuple(total["names"]), total["limit"], total["suspect"]))


def calibrate(
    soft: Mapping[str, np.ndarray],
    dice: Mapping[str, np.ndarray],
    of_limits: Mapping[str, np.ndarray],
    names: Sequence[str],
    false_alarms: float,
    margin: float = 0.0,
) -> dict[str, Any]:
    """Calibrate a network on cases with reference masks.

    Args:
        soft: by structure, soft Dice f64[N] of the predicted masks; NaN where the structure was not predicted.
        dice: by structure, their Dice f64[N]; NaN where the structure is in neither mask.
        of_limits: by structure, soft Dice f64[M] of the cases that set the limits, in one order for all structures.
        names: structures to warn of, in `soft`; others only get a predicted Dice.
        false_alarms: share of those cases that get a warning for the sum over the structures. Limits of single ones lie
            `MARGIN` lower than this share.
        margin: log odds by which the limit of the sum lies lower than this share, for a network whose films come from
            elsewhere.

    Returns:
        The fields that `read_calibration` reads.

    Raises:
        ValueError: a structure has fewer than `MIN_CASES` cases.
    """
    odds = np.stack([_log_odds(np.nan_to_num(of_limits[name])) for name in names])
    limits = dict(zip(names, np.quantile(odds, false_alarms, axis=1) - MARGIN, strict=True))
    limit, suspect = np.quantile(odds.sum(0), (false_alarms, min(TURN_CHECKS * false_alarms, 0.5)))
    limit -= margin
    lines = {name: _line(soft[name], dice[name], float(limits.get(name, -np.inf))) for name in soft}
    total = Total(tuple(names), float(limit), float(suspect))
    return {
        "structures": {name: line._asdict() for name, line in lines.items()},
        "total": total._asdict() | {"names": list(names)},
        "false_alarms": false_alarms,
        "margin": margin,
    }


def _line(soft: np.ndarray, dice: np.ndarray, limit: float) -> Line:
    """Fit a line by least squares, with the quantiles of its residuals."""
    is_scored = ~np.isnan(soft) & ~np.isnan(dice)
    if is_scored.sum() < MIN_CASES:
        raise ValueError(f"{is_scored.sum()} cases, but a calibration needs {MIN_CASES}")
    x, y = _log_odds(soft[is_scored]), _log_odds(dice[is_scored])
    slope = max(float(np.cov(x, y)[0, 1] / max(np.var(x, ddof=1), 1e-6)), 0.0)
    intercept = float(y.mean() - slope * x.mean())
    tail = (1 - COVERAGE) / 2
    low, high = np.quantile(y - intercept - slope * x, (tail, 1 - tail))
    return Line(intercept, slope, float(low), float(high), max(limit, NO_LIMIT))


def _log_odds(dice: np.ndarray | float) -> np.ndarray:
    odds: np.ndarray = special.logit(np.clip(dice, _NEAREST, 1 - _NEAREST))
    return odds


def soft_dice(mask: np.ndarray, probability: np.ndarray) -> float:
    """Return the soft Dice of a mask bool[h, w] with probabilities f32[h, w]; NaN for an empty mask."""
    size = int(mask.sum())
    return float(2 * probability[mask].sum() / (size + probability.sum())) if size else float("nan")


def predicted_dice(soft: float, line: Line) -> Interval:
    """Return the Dice that a line predicts for a soft Dice; NaN for NaN."""
    center = line.intercept + line.slope * float(_log_odds(soft))
    return Interval(*(float(special.expit(center + shift)) for shift in (0.0, line.low, line.high)))


def total(soft: Mapping[str, float], names: Sequence[str]) -> float:
    """Return the sum of soft log odds; a structure that was not predicted counts as soft Dice 0."""
    return float(sum(_log_odds(np.nan_to_num(soft[name])) for name in names))


def dice_warnings(soft: Mapping[str, float], calibration: Calibration) -> tuple[str, ...]:
    """Return a warning for each structure with a low soft Dice, or for the lowest one if their sum is low.

    A structure that was not predicted gets none here; `anatomy_warnings` names it.

    Args:
        soft: soft Dice by structure; NaN where a structure was not predicted.
        calibration: of the network.
    """
    lines, names = calibration.lines, calibration.total.names
    predicted = {name: predicted_dice(soft[name], lines[name]) for name in names if not np.isnan(soft[name])}
    low = [name for name in predicted if _log_odds(soft[name]) < lines[name].limit]
    is_complete = len(predicted) == len(names)
    if not low and is_complete and total(soft, names) < calibration.total.limit:
        low = [min(predicted, key=lambda name: predicted[name].value)]
    return tuple(
        f"{name}: predicted Dice {predicted[name].value:.2f} ({predicted[name].low:.2f} to "
        f"{predicted[name].high:.2f}), look at its outline"
        for name in low
    )


def turn_warning(
    image: np.ndarray, upright: float, score: Callable[[Sequence[np.ndarray]], Sequence[float]]
) -> str:
    """Return a warning if a turned image has better predictions; "" if not.

    Args:
        image: u8[H, W, C].
        upright: `total` of the image as it is.
        score: images -> `total` of each.
    """
    turned = score([np.rot90(image, turns) for turns in ROTATIONS])
    best = int(np.argmax(turned))
    if turned[best] <= upright:
        return ""
    return (
        f"the film may lie {ROTATIONS[best + 1]}: turned by {90 * (best + 1)} degrees counterclockwise, its bones are "
        "recognized better"
    )


def is_own_mirror_image(image: np.ndarray) -> bool:
    """Return whether an image u8[H, W, C] equals its mirror image, by some of its rows."""
    rows = image[:: max(1, image.shape[0] // MIRROR_ROWS)].astype(np.float32)
    deviation = np.abs(rows - rows.mean()).mean()
    return bool(np.abs(rows - rows[:, ::-1]).mean() < MIRROR_TOLERANCE * deviation)


def lacks_optional_bone(masks: Mapping[str, np.ndarray]) -> bool:
    """Return whether a knee, of masks bool[h, w] by structure, has little or no fibula."""
    if OPTIONAL_BONE not in masks:
        return False
    sizes = {name: int(mask.sum()) for name, mask in masks.items()}
    return sizes[OPTIONAL_BONE] < MIN_OPTIONAL_SHARE * sum(sizes.values())


def anatomy_warnings(masks: Mapping[str, np.ndarray]) -> tuple[str, ...]:
    """Return why masks are implausible; empty if they are plausible, or if all are empty.

    Args:
        masks: bool[h, w] by structure; pixels need not be square, and whole bones may overlap. The bones of each side
            are one knee. A structure that is no bone of the knee gets a warning only if it is absent.
    """
    if not any(mask.any() for mask in masks.values()):
        return ()
    names = {name: name.removeprefix("whole ") for name in masks}
    if not all(name.partition(" ")[0] in SIDES and name.partition(" ")[2] in BONES for name in masks):
        return tuple(_warnings_of_knee({names[name]: mask for name, mask in masks.items()}))
    warnings: list[str] = []
    for side in SIDES:
        knee = {name.removeprefix(f"{side} "): mask for name, mask in masks.items() if name.startswith(side)}
        warnings += [f"{side} knee: {warning}" for warning in _warnings_of_knee(knee)]
    return tuple(warnings)


def _warnings_of_knee(masks: dict[str, np.ndarray]) -> list[str]:
    sizes = {name: int(mask.sum()) for name, mask in masks.items()}
    bone = sum(sizes.values())
    if not bone:
        return ["nothing found"]
    warnings = [
        f"no {name} found: cut off, or not from the front?"
        for name, size in sizes.items()
        if not size and name != OPTIONAL_BONE
    ]
    for name, size in sizes.items():
        if 0 < size < MIN_SHARE.get(name, 0) * bone and not _is_cut(masks[name], SHAFT_SIDES.get(name, "")):
            warnings.append(f"little {name} ({size / bone:.1%} of the bone): is a part of it missing?")
    rigid = [name for name in masks if name in BONES and name != OPTIONAL_BONE]
    if broken := [name for name in rigid if _share_outside_piece(masks, name) > MAX_DETACHED_SHARE]:
        warnings.append(f"{', '.join(broken)} in several pieces: two knees? see --knees")
    if sizes.get("femur") and sizes.get("tibia") and _mean(masks["tibia"], 0) <= _mean(masks["femur"], 0):
        warnings.append("the tibia is not below the femur: upside down or on its side?")
    if sizes.get("femur") and sizes.get("tibia") and (ratio := _width_ratio(masks)) < MIN_WIDTH_RATIO:
        warnings.append(f"the tibia has only {ratio:.2f} of the femur's width: is the film from the front?")
    return warnings


def _is_cut(mask: np.ndarray, shaft_side: str) -> bool:
    """Return whether a mask bool[h, w] touches an edge of the image other than that of its shaft."""
    edges = {"top": mask[0], "bottom": mask[-1], "left": mask[:, 0], "right": mask[:, -1]}
    return any(edge.any() for side, edge in edges.items() if side != shaft_side)


def _share_outside_piece(masks: dict[str, np.ndarray], name: str) -> float:
    """Return the share of a structure's pixels outside its largest connected piece.

    The patella may cut off a part of the femur: both count as one.
    """
    mask = masks["femur"] | masks["patella"] if name == "femur" and "patella" in masks else masks[name]
    pieces = np.bincount(ndimage.label(mask)[0].ravel())[1:]
    return 1 - pieces.max() / pieces.sum() if pieces.size else 0.0


def _width_ratio(masks: Mapping[str, np.ndarray]) -> float:
    """Return the width of the tibia over that of femur and patella; infinite where an edge cuts one of them."""
    femur, tibia = masks["femur"], masks["tibia"]
    if "patella" in masks:
        femur = femur | masks["patella"]
    if femur[:, [0, -1]].any() or tibia[:, [0, -1]].any():
        return float("inf")
    return float(tibia.sum(1).max() / femur.sum(1).max())


def _mean(mask: np.ndarray, axis: int) -> float:
    return float(np.nonzero(mask)[axis].mean())
