r"""Mitigations compared on your own radiographs, in a folder as in configs/folder.py.

    python launch.py --mode=study --config=configs/study_folder.py --workdir=runs/study_mine --config.data.root=DIR \
        --config.data.structures="femur,tibia,fibula,patella" --config.mitigation.groups="('sex',)"

On several machines, add `--shard=i/n`, i = 0, ..., n - 1; the last one to finish writes the page.
"""

from ml_collections import ConfigDict

from kneefair_jax.configs import folder
from kneefair_jax.configs.mitigations import section

METHODS = ("erm", "undersampled", "proportional", "equal_share", "reweighted", "group_dro", "group_specific")


def get_config() -> ConfigDict:
    """Return the folder's config with a study of three seeds."""
    config = folder.get_config()
    config.train.steps = 300
    config.study = section("Mitigations compared", METHODS, seeds=(0, 1, 2))
    return config
