from .result import Audit, Settings
from .run import masks, table

__all__ = ["Audit", "Settings", "masks", "table"]
