"""The measurements of two masks of a film, a reference and a prediction, knee by knee."""

from collections.abc import Mapping, Sequence

import numpy as np

from kneefair_jax.measurements.bones import trace, whole_bones
from kneefair_jax.measurements.definitions import MEASUREMENTS
from kneefair_jax.measurements.knee import Knee
from kneefair_jax.measurements.measure import Measurement, measure_knee
from kneefair_jax.measurements.spacing import BoneSpacing

COLUMNS = (
    "knee",
    "measurement",
    "unit",
    "reference",
    "predicted",
    "error",
    "reference_reason",
    "predicted_reason",
    "note",
    "spacing_kind",
)


def trace_knees(
    label: np.ndarray,
    void: np.ndarray | None,
    structures: Sequence[str],
    pixel: BoneSpacing,
    sides: Mapping[str, str],
) -> dict[str, Knee]:
    """Trace the knees of a mask.

    Args:
        label: u8[H, W].
        void: bool[H, W], pixels of which nothing is known; None for none.
        structures: names of labels 1, 2, ...
        pixel: of the film.
        sides: `right` and `left`, or "" for one knee (`bones.knees_of`) -> the side of the knee, "" if it is not
            stated.
    """
    return {
        name: trace(whole_bones(label, structures, name), pixel.mm, name or side, void=void)
        for name, side in sides.items()
    }


def trace_prediction(
    label: np.ndarray,
    void: np.ndarray | None,
    structures: Sequence[str],
    pixel: BoneSpacing,
    references: Mapping[str, Knee],
) -> dict[str, Knee]:
    """Trace the knees of a predicted mask on the sides of the reference knees.

    A prediction without a fibula, or with one on the wrong side, is thus measured on the right side.

    Args:
        label: as for `trace_knees`.
        void: as for `trace_knees`.
        structures: as for `trace_knees`.
        pixel: as for `trace_knees`.
        references: the knees of the reference mask.
    """
    sides = {name: knee.stated_side or knee.side for name, knee in references.items()}
    return trace_knees(label, void, structures, pixel, sides)


def compare_knees(
    references: Mapping[str, Knee], predictions: Mapping[str, Knee], pixel: BoneSpacing
) -> list[tuple[object, ...]]:
    """Measure the knees of two masks.

    Args:
        references: side, or "" -> the knee by the reference mask.
        predictions: the same by the prediction.
        pixel: of the film.

    Returns:
        A row of `COLUMNS` for each knee and measurement; a value is NaN where its reason says why there is none.
    """
    rows: list[tuple[object, ...]] = []
    for name, knee in references.items():
        reference = measure_knee(knee, pixel.refusal)
        prediction = measure_knee(predictions[name], pixel.refusal)
        rows += _rows(name, reference, prediction, pixel.kind)
    return rows


def _rows(
    knee: str, reference: Mapping[str, Measurement], prediction: Mapping[str, Measurement], kind: str
) -> list[tuple[object, ...]]:
    return [
        (
            knee,
            name,
            definition.unit,
            reference[name].value,
            prediction[name].value,
            prediction[name].value - reference[name].value,
            reference[name].reason,
            prediction[name].reason,
            "; ".join(dict.fromkeys(filter(None, (reference[name].note, prediction[name].note)))),
            kind,
        )
        for name, definition in MEASUREMENTS.items()
    ]
