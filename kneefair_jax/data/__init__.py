"""Read cases from their sources, and bring them to a device.

    from kneefair_jax import data

    cohort = data.load(config.data, config.data.seed)      # a table of cases, each in a split; no image is read
    cases = data.store.prepare(cohort.source, cohort.grid, directory)
    cases[0]["image"], cases[0]["label"], cases[0]["spacing"]

Names load on first use: reading files needs neither JAX nor grain.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
