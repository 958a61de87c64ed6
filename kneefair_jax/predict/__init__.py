"""Segment radiographs with a shipped network or an exported run.

    from kneefair_jax import predict

    predictor = predict.load("phantom")
    masks = predictor(images)           # a list of 2-D arrays of any size -> u8 masks of the same sizes
    predictor.structures                # names of labels 1, 2, ...
    for prediction in predictor.predict(images):
        prediction.mask, prediction.confidence, prediction.warning  # confidence by structure; "" without a warning

`python -m kneefair_jax.predict` segments files; both refuse the same pictures. A run directory has to be exported first
(`python -m kneefair_jax.export RUN`). The package is no medical device.

Names load on first use: the command handles signals before it imports JAX.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
