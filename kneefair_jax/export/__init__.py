"""A run's network as files that other programs take: weights as safetensors, and a model card.

`export.export(run, out)` does what `python -m kneefair_jax.export RUN` does.
"""

from kneefair_jax.export.model_card import card
from kneefair_jax.export.network_files import FOLDER, NAME, export

__all__ = ["FOLDER", "NAME", "card", "export"]
