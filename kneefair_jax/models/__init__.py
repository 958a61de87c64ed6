"""Networks as pure functions: `model.init(key, image)` -> variables, `model.apply(variables, image)` -> logits."""

from kneefair_jax.models.heads import HEADS
from kneefair_jax.models.registry import DTYPES, FIELDS, MODELS, PRETRAINED, count, create
from kneefair_jax.models.resnet import ResNetEncoder, ResNetUNet
from kneefair_jax.models.unet import STANDARDIZE_EPSILON, STEMS, UNet, standardize

__all__ = [
    "DTYPES",
    "FIELDS",
    "HEADS",
    "MODELS",
    "PRETRAINED",
    "STANDARDIZE_EPSILON",
    "STEMS",
    "ResNetEncoder",
    "ResNetUNet",
    "UNet",
    "count",
    "create",
    "standardize",
]
