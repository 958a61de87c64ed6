"""Export of a run's network for other programs: weights as safetensors, and a model card.

`export.export(run, out)` is `python -m kneefair_jax.export RUN`.

Names load on first use, so that the command handles signals before it imports JAX.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
