"""kneefair_jax: measure, explain and repair unequal segmentation of knee bones, in JAX.

Importing the package imports nothing else; take the parts that are needed::

    from kneefair_jax import losses, metrics, mitigation, models
"""

__version__ = "0.1.0"
