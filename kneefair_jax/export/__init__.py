"""A run's network as files that other programs take: weights as safetensors, and a model card.

from kneefair_jax import export

export.export(run, out)      # as `python -m kneefair_jax.export RUN`
"""

from kneefair_jax.export.model_card import card
from kneefair_jax.export.safetensors import FOLDER, NAME, export

__all__ = ["FOLDER", "NAME", "card", "export"]
