"""Write the warnings on the data that stand above the headline: masks that look wrong, and excluded cases."""

from kneefair_jax.report.schema import Report
from kneefair_jax.report.text.formatting import amount, count, listing

_OTHER_SPLIT = "another split"  # no defect of the data


def sentences(report: Report) -> list[str]:
    """Return short sentences: the audit's warnings on masks, and the number of excluded cases with the reasons."""
    cohort = report["cohort"]
    return [*cohort.get("warnings", []), *_excluded(report)]


def _excluded(report: Report) -> list[str]:
    flow = report["cohort"].get("flow")
    if not flow:
        return []
    records = {entry["reason"]: entry["records"] for entry in flow["excluded"] if entry["records"]}
    listed = flow["listed"] - records.pop(_OTHER_SPLIT, 0)
    total = sum(records.values())
    if not total:
        return []
    reasons = listing(
        reason if len(records) == 1 else f"{count(number)} {reason}" for reason, number in records.items()
    )
    verb = "is" if total == 1 else "are"
    return [f"{count(total)} of {amount(listed, 'case')} {verb} excluded ({reasons})."]
