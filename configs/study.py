r"""Mitigations compared on phantoms with a planted bias, where an oracle shows what training can repair.

    python launch.py --mode=study --config=configs/study.py --workdir=runs/study

`configs/study.py` is the short-budget regime: the rare group B is under-trained. `configs/study.py:long` trains five
times as long, and `configs/study.py:null` has no bias: any change there is chance. `configs/study.py:all` explores
every method with the short budget and fewer seeds: with so many methods, five seeds could distinguish few changes from
chance. On several machines, add `--shard=i/n`, i = 0, ..., n - 1; the last one to finish writes the page.
"""

from ml_collections import ConfigDict

from kneefair_jax.configs import default
from kneefair_jax.configs.mitigations import METHODS, section
from kneefair_jax.errors import lookup

STEPS = {"short": 300, "long": 1500, "null": 300, "all": 300}
PLANTED = "Group B, a tenth of the training patients, has bones of another shape and less contrast."
SAMPLED = ("erm", "equal_share", "oversampled", "group_dro")
FEW = ("erm", "undersampled", "equal_share", "oversampled", "reweighted", "group_dro")
SEEDS = (10, 11, 12, 13, 14)
DESCRIPTIONS = {
    "short": f"{PLANTED} The budget is short: B is under-trained.",
    "long": f"{PLANTED} The budget is five times that of the short study.",
    "all": f"{PLANTED} The budget is short: B is under-trained.",
    "null": "The groups do not differ and are equally large: every difference here is chance.",
}


def get_config(variant: str = "short") -> ConfigDict:
    """Return one of the four variants."""
    config = default.get_config()
    data = config.data
    data.size = (64, 64)
    data.update(default.phantom())
    data.attributes = ("race",)
    data.fractions = (0.4, 0.1, 0.5)
    phantom = data.phantom
    phantom.patients = 600
    phantom.attributes = ConfigDict({"race": ConfigDict({"A": 0.5, "B": 0.5})})  # of validation and test
    planted = {"morphology": 1.0, "contrast": 0.4} if variant != "null" else {}
    # An experiment, not a claim about people. At this strength, B has a tenth of the training places.
    represented = {"representation": 0.936 if variant != "null" else 0.0}
    phantom.bias = ConfigDict({"race=B": ConfigDict(planted | represented)})

    config.model.widths = (8, 16, 32, 64)
    config.mitigation.groups = ("race",)
    config.optimizer.learning_rate = 4e-3
    config.train.steps = lookup(STEPS, variant, "configs/study.py:VARIANT")
    config.train.eval_every = config.train.steps // 5
    config.train.log_every = 50
    config.report.bootstrap_draws = 1000

    # Hyperparameters were chosen on the seeds 0 and 1, and on other patients.
    config.data.seed = 1
    methods = {"all": tuple(METHODS), "long": SAMPLED}.get(variant, FEW)
    seeds = SEEDS[:3] if variant in ("all", "long") else SEEDS
    config.study = study = section(f"Mitigations on phantoms: {variant}", methods, seeds)
    study.description = DESCRIPTIONS[variant]
    study.oracle = variant != "null"  # equal shares in training
    study.sweep = (0.0, 0.789, 0.936) if variant == "short" else ()  # the rare group's share: 1/2, 1/5, 1/10
    study.sweep_methods = ("erm", "equal_share", "group_dro")
    return config
