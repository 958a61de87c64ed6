r"""Fine-tune the shipped weights `phantom-v1` on a folder of a few labeled radiographs, of any structures.

    python launch.py --config=configs/finetune.py --config.data.root=DIR --workdir=runs/finetuned \
        --config.data.structures="femur,tibia" --config.data.attributes="('sex',)"

DIR is a folder as in configs/folder.py. The last layer keeps the weights of structures that the shipped network knows.

Measured by benchmarks/finetune.py on chest films (JSRT, lungs and heart, none of which the weights know), 300 steps of
4 films, 3 seeds, 40 test patients: macro Dice 0.958 [0.953, 0.962] from 10 training patients, and 0.944 [0.937, 0.950]
by the same steps from scratch; from 170, 0.962 and 0.949. The number of steps matters, too: configs/folder.py trains on
8,000 films from scratch and reaches 0.968. A training took 1.0 to 5.5 min on 2 CPU cores shared with other work.

The learning rate is the best of 5e-4, 1e-3, 2e-3 and 4e-3 on 36 validation patients of that cohort, 10 to train on, one
seed (0.943, 0.952, 0.955, 0.959 after 200 steps); higher ones and knees were not tried. From scratch, 2e-3 was the best
of 1e-3, 2e-3 and 4e-3.
"""

from ml_collections import ConfigDict

from kneefair_jax.configs import folder


def get_config() -> ConfigDict:
    """Return the folder's fields with the shipped network's shape and a short schedule."""
    config = folder.get_config()
    config.init_from = "phantom-v1"  # or your own: a .safetensors file, an exported run's folder
    # The widths of phantom-v1; those of phantom are (32, 64, 128, 256, 512), for 256 x 256 pixels.
    config.model.widths = (16, 32, 64, 128, 256)
    config.model.norm = "group"
    config.optimizer.learning_rate = 4e-3
    config.optimizer.warmup_steps = 20
    config.train.batch_size = 4  # no more than there are training films
    config.train.steps = 300
    config.train.eval_every = 100
    return config
