"""The recipe of the published studies (arXiv 2308.04356; Sci Rep 14:16105, 2024), with its faults corrected.

Its recipe: bilateral films squashed to 224 x 224, a U-Net with a ResNet-18 encoder, cross-entropy, Adam at 5e-4,
batches of 16, 50 epochs, no augmentation; a baseline, "balanced" (undersampled), "stratified" (proportional) batches
and group-specific models. Corrected here: scores are of the test patients alone and the same for all methods, samplers
shuffle, background is not part of the mean, films are standardized and MONOCHROME1 inverted, all models take equally
many steps, and there are seeds, intervals and tests. Checkpoints are selected by Dice, not IoU.
"""

from ml_collections import ConfigDict

from kneefair_jax.configs.mitigations import section

METHODS = ("erm", "undersampled", "proportional", "group_specific")
EPOCHS = 50


def apply(config: ConfigDict, attribute: str) -> ConfigDict:
    """Return the config with the recipe, its groups those of one attribute."""
    config.data.size = (224, 224)
    if attribute == "race":
        config.data.levels = ConfigDict({"race": ("White", "Black")})  # the two that the study compared
    config.data.fractions = (0.7, 0.15, 0.15)
    config.model.name = "resnet18_unet"
    config.model.widths = (16, 32, 64, 128, 256)
    config.loss = "cross_entropy"
    config.mitigation.groups = (attribute,)
    config.optimizer.learning_rate = 5e-4
    config.optimizer.schedule = "constant"
    config.optimizer.warmup_steps = 0
    config.optimizer.clip_norm = 0.0
    config.augment = ConfigDict(dict.fromkeys(config.augment, 0.0))
    config.train.batch_size = 16
    config.study = section(f"The published recipe, by {attribute}", METHODS, seeds=(0, 1, 2))
    return config


def epochs(cases: int, batch_size: int = 16) -> int:
    """Return the number of steps of 50 epochs."""
    return EPOCHS * cases // batch_size
