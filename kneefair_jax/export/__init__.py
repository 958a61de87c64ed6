"""A run's network as files that other programs take: weights as safetensors, and a model card.

`export.export(run, out)` does what `python -m kneefair_jax.export RUN` does.

Names load on first use: the command handles signals before it imports JAX.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
