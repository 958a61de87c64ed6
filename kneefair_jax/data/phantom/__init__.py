"""Phantom knees: parametric postero-anterior radiographs with exact masks and biases of known strength.

Names load on first use: the command handles signals before it imports JAX.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
