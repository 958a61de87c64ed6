"""Prepared cases: every case of a source read once, stored on the working grid, then read at random.

Names load on first use: reading processes import `chunks` alone, and neither TFDS nor JAX.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
