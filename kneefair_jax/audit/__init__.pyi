from .options import CaseOptions, MaskOptions, Settings
from .result import Audit
from .run import masks, predicted, table

__all__ = ["Audit", "CaseOptions", "MaskOptions", "Settings", "masks", "predicted", "table"]
