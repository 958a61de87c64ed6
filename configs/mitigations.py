"""Every mitigation by name, and the section that makes a run's config a study's.

A method is what it changes in a config's `mitigation` section; `erm` changes nothing. A study picks some of them and
may change their settings:

    --config.study.methods="('erm','group_dro')" --config.study.settings.group_dro.eta=0.5
"""

from collections.abc import Sequence

from ml_collections import ConfigDict

METHODS: dict[str, dict[str, str | float | int]] = {
    "erm": {},
    # Which case next.
    "undersampled": {"sampler": "undersampled"},  # the study's "balanced"
    "proportional": {"sampler": "proportional"},  # the study's "stratified"
    "equal_share": {"sampler": "equal_share"},
    "oversampled": {"sampler": "oversampled"},
    # How the losses of a batch become one.
    "reweighted": {"objective": "reweighted"},
    "group_balanced": {"objective": "group_balanced"},
    "group_dro": {"objective": "group_dro", "sampler": "equal_share", "eta": 0.1, "adjustment": 0.0},
    "cvar_dro": {"objective": "cvar_dro", "alpha": 0.5},
    "within_group_cvar": {"objective": "within_group_cvar", "alpha": 0.5},
    "gap_penalty": {"objective": "gap_penalty", "penalty": 1.0},
    "vrex": {"objective": "vrex", "penalty": 1.0, "anneal_steps": 0},
    "error_bound": {"objective": "error_bound", "power": 1.0},
    # Parts of the network.
    "attribute_head": {"head": "attribute_head", "strength": 0.1},
    "adversarial": {"head": "adversarial", "strength": 0.1, "ramp": False},
    "moe": {"head": "moe"},
    # Stages.
    "group_specific": {"schedule": "group_specific", "start": "scratch"},
    "fine_tuned": {"schedule": "group_specific", "start": "pooled"},
    "distilled": {"schedule": "distilled", "distillation": 1.0, "temperature": 1.0},
    "jtt": {"schedule": "jtt", "share": 0.2, "upweight": 5.0, "extra_steps": 100},
    "last_layer": {"schedule": "last_layer", "share": 0.2, "extra_steps": 100},
    # Flat minima.
    "sam": {"sharpness": 0.05},
}


def section(title: str, methods: Sequence[str], seeds: Sequence[int]) -> ConfigDict:
    """A config's `study` section: what `--mode=study` reads beside the config of a run."""
    study = ConfigDict()
    study.title = title
    study.description = ""  # a sentence for the page
    study.methods = tuple(methods)  # keys of `settings`
    study.seeds = tuple(seeds)  # of the runs; the patients are those of data.seed
    study.settings = ConfigDict({name: ConfigDict(changes) for name, changes in METHODS.items()})
    study.oracle = False  # phantoms with the switch representation: `erm` without it is the oracle
    study.sweep = ()  # strengths of that switch
    study.sweep_methods = ("erm",)  # which methods to run at each
    study.bootstrap_draws = 10_000  # resamples of patients for each interval of the comparison
    return study
