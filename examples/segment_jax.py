"""Segment a film with an exported JAX network; needs jax, numpy and Pillow.

python examples/segment_jax.py phantom.jaxexport film.png mask.png
"""

import sys
from pathlib import Path

import numpy as np
from jax import export
from PIL import Image

if len(sys.argv) != 4:
    raise SystemExit(__doc__)
artifact, film, out = sys.argv[1:]
pixels = np.asarray(Image.open(film))  # gray, bone bright, 8 or 16 bits
if pixels.ndim != 2:
    raise SystemExit(f"{film}: give a gray film; Image.open(...).convert('L') makes one of colors")
program = export.deserialize(bytearray(Path(artifact).read_bytes()))
probabilities, mask = program.call(pixels[None].astype(np.float32), np.bool_(pixels.dtype == np.uint8))
Image.fromarray(np.asarray(mask)[0]).save(out)
