from .mirror import mirror_test
from .options import CaseOptions, MaskOptions, MeasurementOptions, Settings
from .readers_audit import ReadersAudit, against_readers
from .result import Audit
from .run import masks, predicted, table

__all__ = [
    "Audit",
    "CaseOptions",
    "MaskOptions",
    "MeasurementOptions",
    "ReadersAudit",
    "Settings",
    "against_readers",
    "masks",
    "mirror_test",
    "predicted",
    "table",
]
