r"""The weights that ship, adapted to a folder of a few labelled films; other structures than theirs included.

    python launch.py --config=configs/finetune.py --config.data.root=DIR --workdir=runs/finetuned \
        --config.data.structures="femur,tibia" --config.data.attributes="('sex',)"

DIR is a folder as in configs/folder.py. Of the last layer, what belongs to structures that the weights know is kept.
"""

from ml_collections import ConfigDict

from configs import folder


def get_config() -> ConfigDict:
    """The folder's fields, the shipped network's shape, and a short schedule."""
    config = folder.get_config()
    config.init_from = "phantom"  # or your own: a .safetensors file, an exported run's folder
    config.model.widths = (16, 32, 64, 128, 256)  # those of the shipped network
    config.model.norm = "group"
    config.optimizer.learning_rate = 4e-3
    config.optimizer.warmup_steps = 20
    config.train.batch_size = 4  # no more than there are training films
    config.train.steps = 300
    config.train.eval_every = 100
    return config
