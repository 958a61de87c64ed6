"""Measure how well `kneefair_jax.data.inspection` tells interpolated masks from exact ones.

    python -m benchmarks.interpolated_labels

Masks of clinical phantoms at 128 and 256 pixels, of four fields of view, and of films of both knees: as they are, and
resized by nearest neighbor; and resized, turned by 3 degrees and moved by a part of a pixel, by linear interpolation
and rounding. Prints, of each kind, how many are called interpolated, and the smallest and largest share of rims.
"""

import argparse
from collections.abc import Callable

import jax
import numpy as np
from PIL import Image
from scipy import ndimage

from kneefair_jax.data.inspection import interpolated_rims
from kneefair_jax.data.phantom.case import draw_case, draw_film

SEED = 7000
_FOVS = (140.0, 80.0, 110.0, 200.0)


def draw(cases: int) -> dict[str, list[np.ndarray]]:
    """Kind of film -> masks u8[H, W]; a quarter as many films of both knees."""
    kinds: dict[str, list[np.ndarray]] = {}
    for side in (128, 256):
        one = jax.jit(
            lambda key, knee, fov, side=side: draw_case(key, knee, size=(side, side), fov_mm=fov).label
        )
        draw_label = jax.jit(lambda key, side=side: draw_film(key, size=(side, side * 3 // 2)).label)
        keys = [jax.random.key(SEED + n) for n in range(cases)]
        kinds[f"one knee, {side}"] = [np.asarray(one(key, n % 2, _FOVS[n % 4])) for n, key in enumerate(keys)]
        kinds[f"both knees, {side}"] = [np.asarray(draw_label(key)) for key in keys[: cases // 4]]
    return kinds


def resized(mask: np.ndarray, factor: float, how: Image.Resampling) -> np.ndarray:
    """A mask at another size, rounded."""
    height, width = (int(side * factor) for side in mask.shape)
    pixels = np.asarray(Image.fromarray(mask.astype(np.float32)).resize((width, height), how))
    return np.rint(pixels).astype(np.uint8)


def _enlarged(mask: np.ndarray, factor: float, how: Image.Resampling) -> np.ndarray:
    return resized(resized(mask, 1 / factor, Image.Resampling.NEAREST), factor, how)


def _rounded(values: np.ndarray) -> np.ndarray:
    return np.rint(values).astype(np.uint8)


_NEAREST, _LINEAR = Image.Resampling.NEAREST, Image.Resampling.BILINEAR
WAYS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "exact": lambda mask: mask,
    "nearest, x 2": lambda mask: _enlarged(mask, 2, _NEAREST),
    "nearest, / 2": lambda mask: resized(mask, 1 / 2, _NEAREST),
    "linear, x 1.2": lambda mask: _enlarged(mask, 1.2, _LINEAR),
    "linear, x 2": lambda mask: _enlarged(mask, 2, _LINEAR),
    "linear, x 4": lambda mask: _enlarged(mask, 4, _LINEAR),
    "linear, x 8": lambda mask: _enlarged(mask, 8, _LINEAR),
    "linear, / 1.3": lambda mask: resized(mask, 1 / 1.3, _LINEAR),
    "linear, / 2": lambda mask: resized(mask, 1 / 2, _LINEAR),
    "linear, 3 degrees": lambda mask: _rounded(ndimage.rotate(mask.astype(float), 3, order=1, reshape=False)),
    "linear, moved": lambda mask: _rounded(ndimage.shift(mask.astype(float), (0.4, 0.3), order=1)),
}


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--cases", type=int, default=400, help="masks of each size")
    options = parser.parse_args()
    for kind, masks in draw(options.cases).items():
        for way, change in WAYS.items():
            results = [interpolated_rims(change(mask)) for mask in masks]
            shares = [rims.share for rims in results]
            detected = sum(rims.interpolated for rims in results)
            print(f"{kind}; {way}: {detected} of {len(masks)}, share {min(shares):.3f} to {max(shares):.3f}")


if __name__ == "__main__":
    main()
