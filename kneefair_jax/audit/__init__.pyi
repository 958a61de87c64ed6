from .options import CaseOptions, MaskOptions, MeasurementOptions, Settings
from .result import Audit
from .run import masks, predicted, table

__all__ = [
    "Audit",
    "CaseOptions",
    "MaskOptions",
    "MeasurementOptions",
    "Settings",
    "masks",
    "predicted",
    "table",
]
