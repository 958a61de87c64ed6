"""The columns of the long per-case table."""

from kneefair_jax.fairness.patient_table import SCORES as SCORES

# Overlap and surface scores lie in [0, 1]; the others are errors, 0 at best.
SHARES = ("dice", "iou", "nsd", "ece")
MILLIMETRES = ("hd95_mm", "assd_mm")
IDENTIFIERS = ("case_id", "patient_id", "split", "model", "structure")
OTHERS = ("true_area_mm2", "pred_area_mm2")


def order(attributes: tuple[str, ...]) -> list[str]:
    """Of the long per-case table."""
    return [*IDENTIFIERS, *attributes, *SCORES, *OTHERS]
