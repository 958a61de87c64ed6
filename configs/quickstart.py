"""A phantom study in minutes: a rare group whose bones look different, and the gap that follows.

    python launch.py --config=configs/quickstart.py --workdir=runs/quickstart

docs/measured.md has its time and scores on two CPU cores. Nothing is planted by sex.
"""

from ml_collections import ConfigDict

from kneefair_jax.configs import default


def get_config() -> ConfigDict:
    """Return a cohort of phantoms with a planted bias."""
    config = default.get_config()
    config.data.update(default.phantom())
    config.data.seed = 1
    config.data.fractions = (0.5, 0.15, 0.35)  # test cases cost little here, and narrow the intervals
    phantom = config.data.phantom
    phantom.patients = 300
    phantom.knees_per_patient = 2
    phantom.attributes = ConfigDict(
        {"sex": ConfigDict({"female": 0.5, "male": 0.5}), "race": ConfigDict({"A": 0.85, "B": 0.15})}
    )
    # An experiment, not a claim about people: B is rare, and its bones differ in shape and show less contrast.
    phantom.bias = ConfigDict({"race=B": ConfigDict({"morphology": 0.8, "contrast": 0.8, "noise": 0.4})})

    config.mitigation.groups = ("race",)
    config.train.steps = 400
    config.train.eval_every = 100
    return config
