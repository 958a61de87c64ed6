r"""Weights for real knees: whole bones of four kinds, from phantoms that are drawn in the training step.

On a GPU, in ten minutes, at 128 x 128 and then at 256 x 256 pixels (the network is fully convolutional):

    python benchmarks/phantom_weights.py --out OUT --minutes 9

The same recipe as two ordinary runs, which resume after an interruption and end in a report:

    python launch.py --config=configs/phantom_weights.py --workdir=runs/weights_128
    python -m kneefair_jax.export runs/weights_128
    python launch.py --config=configs/phantom_weights.py --workdir=runs/weights_256 --config.data.size="(256, 256)" \
        --config.init_from=runs/weights_128/export/model.safetensors --config.optimizer.learning_rate=5e-4 \
        --config.seed=1

The second run has another seed, since equal seeds draw equal training cases.
"""

from ml_collections import ConfigDict

from kneefair_jax.configs import phantom_to_real


def get_config() -> ConfigDict:
    """Return the phantoms of `phantom_to_real`, from the clinical range to the widest, online, with overlap classes."""
    config = phantom_to_real.get_config()
    data = config.data
    data.fractions = (0.8, 0.1, 0.1)
    data.phantom.patients = 2_000  # training patients only fix the shares of groups and sides
    data.phantom.online = True
    data.phantom.structures = "knee_overlaps"
    data.phantom.films = "varied"
    data.phantom.randomisation = (0.0, 1.0)

    # 7.8 million parameters: 15.5 MB as float16. A step at 128 x 128 takes 17 GFLOP an image.
    config.model.widths = (32, 64, 128, 256, 512)
    config.model.dtype = "bfloat16"
    config.optimizer.learning_rate = 1.5e-3
    config.optimizer.warmup_steps = 500
    config.train.batch_size = 64
    config.train.steps = 20_000
    config.train.eval_every = 1_000
    config.train.ema = 0.999
    return config
