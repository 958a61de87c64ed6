"""Every mitigation by name, and the section that makes a run's config a study's.

A method is a set of changes to a config's `mitigation` section; `erm` changes nothing. A study names its methods and
may change their settings:

    --config.study.methods="('erm','group_dro')" --config.study.settings.group_dro.objective.eta=0.5
"""

from collections.abc import Iterable, Sequence
from typing import Any

from ml_collections import ConfigDict

from kneefair_jax.configs import default
from kneefair_jax.mitigation import OBJECTIVES

# `--shard` divides a study's runs by the order of `METHODS`, which therefore must not follow the imports.
BUILT_IN = (
    *("erm", "reweighted", "group_balanced", "group_dro", "cvar_dro"),
    *("within_group_cvar", "gap_penalty", "vrex", "error_bound"),
)


def order_objectives(names: Iterable[str]) -> list[str]:
    """Return the names of objectives in the order of a study: those of `BUILT_IN`, then the others alphabetically."""
    return sorted(names, key=lambda name: (name not in BUILT_IN, (*BUILT_IN, name).index(name), name))


METHODS: dict[str, dict[str, Any]] = {
    "erm": {},
    # The order of cases.
    "undersampled": {"sampler": {"name": "undersampled"}},  # the published study's "balanced"
    "proportional": {"sampler": {"name": "proportional"}},  # the published study's "stratified"
    "equal_share": {"sampler": {"name": "equal_share"}},
    "oversampled": {"sampler": {"name": "oversampled"}},
    # How the losses of a batch become one.
    **{
        name: {"objective": {"name": name, **OBJECTIVES[name].defaults}}
        | ({"sampler": {"name": OBJECTIVES[name].sampler}} if OBJECTIVES[name].sampler else {})
        for name in order_objectives(OBJECTIVES)
        if name != "erm"
    },
    # Parts of the network.
    "attribute_head": {"head": {"name": "attribute_head", "strength": 0.1}},
    "adversarial": {"head": {"name": "adversarial", "strength": 0.1, "ramp": False}},
    "moe": {"head": {"name": "moe"}},
    # Stages.
    "group_specific": {"schedule": {"name": "group_specific", "start": "scratch"}},
    "fine_tuned": {"schedule": {"name": "group_specific", "start": "pooled"}},
    "distilled": {"schedule": {"name": "distilled", "distillation": 1.0, "temperature": 1.0}},
    "jtt": {"schedule": {"name": "jtt", "share": 0.2, "upweight": 5.0, "extra_steps": 100}},
    "last_layer": {"schedule": {"name": "last_layer", "share": 0.2, "extra_steps": 100}},
    # Flat minima.
    "sam": {"sharpness": 0.05},
}


def section(title: str, methods: Sequence[str], seeds: Sequence[int]) -> ConfigDict:
    """Return a config's `study` section that compares `methods`, with the settings of every method."""
    study = default.study(title, METHODS)
    study.methods = tuple(methods)
    study.seeds = tuple(seeds)
    return study
