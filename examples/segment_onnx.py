"""Segment a film with an exported ONNX network; needs onnxruntime, numpy and Pillow.

python examples/segment_onnx.py phantom.onnx film.png mask.png
"""

import sys

import numpy as np
import onnxruntime
from PIL import Image

if len(sys.argv) != 4:
    raise SystemExit(__doc__)
artifact, film, out = sys.argv[1:]
pixels = np.asarray(Image.open(film))  # gray, bone bright, 8 or 16 bits
if pixels.ndim != 2:
    raise SystemExit(f"{film}: give a gray film; Image.open(...).convert('L') makes one of colors")
session = onnxruntime.InferenceSession(artifact)
inputs = {"image": pixels[None].astype(np.float32), "is_eight_bit": np.array(pixels.dtype == np.uint8)}
probabilities, mask = session.run(None, inputs)
Image.fromarray(mask[0]).save(out)
