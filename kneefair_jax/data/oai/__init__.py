"""The Osteoarthritis Initiative (OAI), as a user who was granted access has it on disk."""

from kneefair_jax.data.oai.cases import source

__all__ = ["source"]
