"""A cohort by sex and race: failed segmentations in women alone, and a race of few patients."""

from typing import Any

import numpy as np
import pandas as pd

from kneefair_jax import groups
from kneefair_jax.fairness.endpoints import endpoint_rates

STRUCTURES = ("femur", "patella")
ATTRIBUTES = ("sex", "race")


def cases(failed: int, women: int = 30, men: int = 30, small: int = 4) -> pd.DataFrame:
    """The long per-case table: the patella of the first `failed` women has Dice 0.2; the last `small` are of race C."""
    draw = np.random.default_rng(0)
    patients = women + men
    case = pd.DataFrame(
        {
            "case_id": [f"c{i:02d}" for i in range(patients)],
            "patient_id": [f"PERSON-{i:02d}" for i in range(patients)],
            "split": "all",
            "model": "",
            "sex": groups.categorical(pd.Series(["female"] * women + ["male"] * men)),
            "race": groups.categorical(
                pd.Series(["C" if i >= patients - small else "AB"[i % 2] for i in range(patients)])
            ),
        }
    )
    table = case.merge(pd.DataFrame({"structure": STRUCTURES}), how="cross")
    table["dice"] = draw.uniform(0.92, 0.97, len(table))
    bad = table["case_id"].isin(case["case_id"][:failed]) & (table["structure"] == "patella")
    table.loc[bad, "dice"] = 0.2
    return table.assign(hd95_mm=np.where(bad, 20.0, 2.0), true_area_mm2=50.0, pred_area_mm2=40.0)


def rates(table: pd.DataFrame, minimum: int = 10) -> dict[str, Any]:
    rates = endpoint_rates(table, STRUCTURES, list(ATTRIBUTES), min_group_patients=minimum, draws=199, seed=0)
    return rates.to_dict()


def report(table: pd.DataFrame, minimum: int = 10) -> dict[str, Any]:
    """As much of a report as the sentences and tables of rates read."""
    return {
        "rates": rates(table, minimum),
        "cohort": {"attributes": list(ATTRIBUTES)},
        "primary": {"score": "dice", "attributes": list(ATTRIBUTES)},
    }
