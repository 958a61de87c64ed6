"""From a config and prepared cases to checkpoints.

    from kneefair_jax import training

    experiment = training.build(config, cohort)
    state, metrics = experiment.train_step(experiment.state, experiment.place(batch))

Names load on first use.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
