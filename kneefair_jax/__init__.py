"""kneefair_jax: measure, explain and repair unequal segmentation of knee bones, in JAX.

`import kneefair_jax` imports no subpackage, so import each one that you use::

    from kneefair_jax import losses, metrics, mitigation, models
"""

__version__ = "0.1.0"
