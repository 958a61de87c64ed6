"""How strongly a batch is varied."""

from typing import NamedTuple


class Augmentation(NamedTuple):
    """Strengths; all zero leaves a batch as it is.

    Attributes:
        flip: probability of a left/right flip, which swaps the labels of sided structures.
        rotation: largest rotation, degrees.
        scale: largest relative change of size.
        stretch: largest relative change of width against height.
        shear: largest shear, pixels across for each pixel down.
        shift: largest shift, as a share of height and width.
        elastic: largest elastic displacement, as a share of height and width; up to 1/16 nothing can fold.
        gamma: largest log2 of the exponent of the grey values.
        contrast: largest relative change of contrast about the mean.
        blur: largest standard deviation of a Gaussian blur, pixels.
        noise: largest standard deviation of added noise; grey values span 0 to 1.
        cut_out: largest sides of a rectangle painted over in one grey, as a share of height and width.
        marker: probability of a bright letter somewhere, as of a side marker.
        collimation: probability of a dark or bright border beyond a rectangle, where there is no bone to find.
        invert: probability of inverted grey values.
    """

    flip: float = 0.0
    rotation: float = 0.0
    scale: float = 0.0
    stretch: float = 0.0
    shear: float = 0.0
    shift: float = 0.0
    elastic: float = 0.0
    gamma: float = 0.0
    contrast: float = 0.0
    blur: float = 0.0
    noise: float = 0.0
    cut_out: float = 0.0
    marker: float = 0.0
    collimation: float = 0.0
    invert: float = 0.0
