"""From checkpoints to the per-case table, and from the table to a run's report.

`case_table` scores every case, `evaluate` writes a run's tables and page; `train_scores`, `calibration` and
`attribute_leakage` are what the page says beside: scores on training cases, size and calibration, and how well each
attribute can be told from image, mask and features.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
