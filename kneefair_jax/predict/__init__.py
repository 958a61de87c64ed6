"""Segmentation of anyone's radiographs by a network that ships, or by one's own.

    from kneefair_jax import predict

    predictor = predict.load("phantom")
    masks = predictor(images)           # a list of 2-D arrays of any sizes -> u8 masks of theirs
    predictor.structures                # names of labels 1, 2, ...
    for said in predictor.predict(images):
        said.mask, said.confidence, said.warning  # by structure; "" where nothing is odd

`python -m kneefair_jax.predict` does it for files; both refuse the same pictures.
A run's folder is taken once it is exported (`python -m kneefair_jax.export RUN`). Nothing here is a medical device.

Names load on first use: the command handles signals before it imports JAX.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
