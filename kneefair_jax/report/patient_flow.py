"""How many cases and patients reach each step of an evaluation, from the list of cases to the ranked groups."""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from kneefair_jax import groups


def counts(
    cases: pd.DataFrame,
    table: pd.DataFrame,
    scores: Mapping[str, Any],
    failures: Mapping[str, Any],
    excluded: Sequence[tuple[str, int]],
    attributes: Sequence[str],
) -> dict[str, Any]:
    """Return the steps, in which every count is that of the step before less what is excluded.

    Args:
        cases: the cohort: `case_id`, `patient_id`, and `split` where there is one.
        table: the long per-case table of the tested cases.
        scores: one score of the report, with its groups.
        failures: the endpoint `failure` of the report's rates.
        excluded: (reason, records of the list of cases that are not in the cohort).
        attributes: of the report.

    Returns:
        `listed` records, `excluded` (reason and records), the `cohort`, its `splits` (none where cases have no split),
        those `tested`, patients whose segmentations are not scored, failed and did not fail, and `groups`: attribute
        -> groups, and how many of them are ranked.
    """
    tested = table.drop_duplicates("case_id")
    splits = cases.groupby("split", sort=False) if "split" in cases else ()
    scored = failures["overall"]["n"] if failures["overall"] else 0
    failed = failures["count"]
    by_attribute = {}
    for attribute in attributes:
        known = [
            entry["ranked"]
            for name, entry in scores["groups"].items()
            if name.startswith(f"{attribute}=") and "," not in name and not groups.is_missing(name)
        ]
        by_attribute[attribute] = {"groups": len(known), "ranked": sum(known)}
    return {
        "listed": len(cases) + sum(number for _, number in excluded),
        "excluded": [{"reason": reason, "records": number} for reason, number in excluded],
        "cohort": _amounts(cases),
        "splits": {str(name): _amounts(rows) for name, rows in splits},
        "tested": _amounts(tested),
        "not_scored": int(tested["patient_id"].nunique()) - scored,
        "failed": failed,
        "without_failure": scored - failed,
        "groups": by_attribute,
    }


def _amounts(cases: pd.DataFrame) -> dict[str, int]:
    return {"cases": len(cases), "patients": int(cases["patient_id"].nunique())}
