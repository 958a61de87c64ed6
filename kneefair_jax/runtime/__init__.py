"""What surrounds a run: its directory, its processes, preemption, disks that fail, files that appear whole.

Names load on first use: reading processes import `atomic` alone, and no JAX.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
