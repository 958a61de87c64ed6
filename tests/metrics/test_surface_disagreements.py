"""Cases that MONAI 1.6 or surface-distance 0.1 score differently: the value here by hand, and their values."""

import numpy as np
import pytest

from kneefair_jax import metrics


def block(rows, columns, shape=(20, 20)):
    mask = np.zeros(shape, np.uint8)
    mask[rows, columns] = 1
    return mask


EMPTY, SMALL, FULL = (
    block(0, slice(0), (6, 8)),
    block(slice(2, 4), slice(3, 5), (6, 8)),
    block(slice(None), slice(None), (6, 8)),
)
SQUARE = block(slice(4, 9), slice(4, 9))
PIXEL = block(4, 4)
F32 = float(np.float32(0.2))
NAN = np.nan

# name: prediction, truth, spacing, and HD95, ASSD and NSD here, in MONAI and in surface-distance; None if one raises
# an error. The diagonal of 6 x 8 is 10.
CASES = {
    "absent from both": (EMPTY, EMPTY, 1.0, [NAN] * 3, [NAN] * 3, [np.inf, NAN, NAN]),
    "absent from the prediction": (EMPTY, SMALL, 1.0, [10, 10, 0], [NAN, np.inf, 0], [np.inf, np.inf, 0]),
    "absent from the truth": (SMALL, EMPTY, 1.0, [10, 10, 0], [NAN, np.inf, 0], [np.inf, np.inf, 0]),
    "fills the image": (FULL, SMALL, 1.0, [10, 10, 0], [13**0.5, 2.690, 0], [13**0.5, 2.637, 0]),
    # Two columns of 10, the left at 0, the right at 2; with the border, rows above and below agree.
    "runs through the image": (
        *(block(slice(None), slice(3, end), (10, 12)) for end in (10, 8)),
        *(1.0, [2, 1, 0.5], [2, 0.643, 0.714], [2, 0.630, 0.718]),
    ),
    # 3 down and 4 across make 5; between their nearest corners it is less.
    "two pixels": (block(7, 8), PIXEL, 1.0, [5, 5, 0], [5, 5, 0], [5, 4.330, 0]),
    # 5 x 0.2 mm in f32 is 1.00000001 mm, which is the tolerance; corners in between are 0.8 mm away.
    "as far as the tolerance": (block(4, 9), PIXEL, F32, [1, 1, 1], [1, 1, 1], [1, 0.9, 0.5]),
    # Of 16 zeros and a 10, the percentile at rank 15.2 is interpolated: 2.
    "a pixel far off": (
        *(SQUARE + block(4, 18), SQUARE, 1.0),
        *([2, 10 / 33, 32 / 33], [2, 0.303, 0.970], [10, 0.664, 0.930]),
    ),
    "of unknown spacing": (SQUARE, SQUARE, NAN, [NAN] * 3, None, [NAN] * 3),
}


@pytest.mark.parametrize("name", sorted(CASES))
def test_scores_by_hand(name):
    prediction, truth, spacing, expected, *_ = CASES[name]
    scores = metrics.surface_distances(prediction, truth, 1, (spacing, spacing))
    np.testing.assert_allclose(np.concatenate(list(scores.values())), expected, rtol=1e-7)
