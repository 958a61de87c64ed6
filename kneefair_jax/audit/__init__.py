"""Audit masks or scores of any tool: fairness numbers and a page, without training and without a GPU.

    from kneefair_jax import audit

    options = audit.MaskOptions(labels={"femur": 1, "tibia": 2})
    result = audit.masks("truth", {"unet": "predicted"}, "metadata.csv", ["sex"], options)
    result.report["scores"]["dice"]["groups"], result.cases, result.metric_frame("sex")
    result.write("report")

Masks may be folders or mappings of case id -> array. `audit.table("scores.csv", ["sex"])` audits a table of scores, and
`python -m kneefair_jax.audit` both.

Names load on first use: the command handles signals before it imports JAX.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
