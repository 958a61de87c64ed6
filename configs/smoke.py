"""The shortest run end to end, to see that an installation works: phantoms, 20 steps, a report.

    kneefair train --config=smoke --workdir=runs/smoke

Its scores mean nothing: the network is too small and trained too briefly. configs/quickstart.py is a study in minutes.
"""

from ml_collections import ConfigDict

from kneefair_jax.configs import quickstart


def get_config() -> ConfigDict:
    """Return the quick start with few patients, a small network and few steps."""
    config = quickstart.get_config()
    config.data.size = (32, 32)
    config.data.attributes = ("race",)
    config.data.workers = 0  # the import in each process takes longer than its share of the work
    config.data.phantom.patients = 80
    config.data.phantom.knees_per_patient = 1
    config.model.widths = (4, 8)
    config.model.convolutions = 1
    config.augment = ConfigDict(dict.fromkeys(config.augment, 0.0))  # fewer random draws to compile
    config.train.steps = 20
    config.train.eval_every = 20
    config.report.bootstrap_draws = 200
    config.report.resolution = "working"
    return config
