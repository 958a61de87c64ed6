"""Every mitigation by name: what it changes in a config's `mitigation` section, beside `erm`, which changes nothing.

A study picks some of these and changes their settings:

    --config.study.methods="('erm','group_dro')" --config.study.settings.group_dro.eta=0.5
"""

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
    "vrex": {"objective": "vrex", "penalty": 1.0},
    "error_bound": {"objective": "error_bound", "power": 1.0},
    # Parts of the network.
    "attribute_head": {"head": "attribute_head", "strength": 0.1},
    "adversarial": {"head": "adversarial", "strength": 0.1},
    "moe": {"head": "moe"},
    # Stages.
    "group_specific": {"schedule": "group_specific", "start": "scratch"},
    "fine_tuned": {"schedule": "group_specific", "start": "pooled"},
    "distilled": {"schedule": "distilled", "distillation": 1.0},
    "jtt": {"schedule": "jtt", "share": 0.2, "upweight": 5.0, "extra_steps": 100},
    "last_layer": {"schedule": "last_layer", "share": 0.2, "extra_steps": 100},
    # Flat minima.
    "sam": {"sharpness": 0.05},
}
