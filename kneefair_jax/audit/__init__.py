"""The audit of anyone's masks or scores: fairness numbers and a page, without training and without a GPU.

    from kneefair_jax import audit

    labels = {"femur": 1, "tibia": 2}
    result = audit.masks("truth", {"theirs": "predicted"}, "metadata.csv", ["sex"], labels=labels)
    result.report["scores"]["dice"]["groups"], result.cases, result.metric_frame("sex")
    result.write("report")

`audit.table("scores.csv", ["sex"])` does the same for a table of scores, and `python -m kneefair_jax.audit` both.
"""

from kneefair_jax.audit.result import Audit, Settings
from kneefair_jax.audit.run import masks, table

__all__ = ["Audit", "Settings", "masks", "table"]
