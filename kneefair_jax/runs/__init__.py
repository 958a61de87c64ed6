"""Whole runs, as `launch.py` starts them: one by `run_experiment`, many and their comparison by `run_study`.

Names load on first use, so that the command checks the name of a config before it imports JAX.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
