import base64
import io

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from kneefair_jax import anatomy, groups
from kneefair_jax.report.overlays import Tile, choose, color, overlay, picture, write_sheet


def decoded(uri: str) -> np.ndarray:
    head, _, body = uri.partition(",")
    assert head == "data:image/png;base64"
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(body))))


@pytest.mark.parametrize(
    ("shape", "expected"),
    [((64, 64), (256, 256)), ((64, 32, 1), (256, 128)), ((30, 300), (26, 256)), ((512, 512), (256, 256))],
)
def test_the_longer_side_is_256_pixels(shape, expected):
    image = np.zeros(shape, np.uint8)
    mask = np.zeros(shape[:2], np.uint8)
    assert decoded(overlay(image, mask, mask)).shape == (*expected, 3)


def test_line_tint_and_background_have_their_colours():
    image = np.full((64, 64), 100, np.uint8)
    label, prediction = np.zeros((2, 64, 64), np.uint8)
    label[16:48, 16:48] = 2  # pixels 64 to 191 of the picture
    prediction[16:48, 16:56] = 2  # too far to the right
    pixels = decoded(overlay(image, label, prediction))
    tint = np.round(100 + 0.3 * (anatomy.COLORS[2].astype(float) - 100))
    for row, column in ((64, 100), (65, 100), (191, 100), (100, 64), (100, 190), (64, 64)):
        assert tuple(pixels[row, column]) == tuple(anatomy.COLORS[2])
    for row, column in ((66, 100), (128, 128), (100, 192), (100, 223)):
        np.testing.assert_allclose(pixels[row, column], tint, atol=1)
    for row, column in ((10, 10), (63, 100), (100, 224)):
        assert tuple(pixels[row, column]) == (100, 100, 100)


def test_touching_structures_each_keep_their_line():
    label = np.zeros((128, 128), np.uint8)
    label[:, :64], label[:, 64:] = 1, 3
    pixels = decoded(overlay(np.zeros((128, 128), np.uint8), label, np.zeros_like(label)))
    assert tuple(pixels[50, 127]) == tuple(anatomy.COLORS[1])
    assert tuple(pixels[50, 128]) == tuple(anatomy.COLORS[3])
    assert tuple(pixels[50, 0]) == (0, 0, 0)  # the picture's edge is no outline


def test_a_long_scheme_starts_the_palette_again_without_background():
    assert color(1) == tuple(anatomy.COLORS[1])
    assert color(8) == tuple(anatomy.COLORS[8])
    assert color(9) == color(1)


def test_void_is_not_drawn():
    label = np.zeros((64, 64), np.uint8)
    label[:, :32], label[:, 32:] = 2, anatomy.VOID
    pixels = decoded(overlay(np.full((64, 64), 100, np.uint8), label, np.zeros_like(label)))
    assert (pixels[:, 128:] == 100).all() and tuple(pixels[100, 127]) == tuple(anatomy.COLORS[2])


def test_lines_of_structures_that_overlap():
    """Both outlines are there where one square hides a part of the other."""
    image, empty = np.full((64, 64), 100, np.uint8), np.zeros((64, 64), np.uint8)
    rows, columns = np.indices((64, 64))
    first, second = (rows < 40) & (columns < 40), (rows > 20) & (columns > 20)
    pixels = picture(image, empty, empty, 64, [(1, first), (2, second)])
    assert tuple(pixels[30, 39]) == tuple(anatomy.COLORS[1])  # inside the second
    assert tuple(pixels[30, 21]) == tuple(anatomy.COLORS[2])  # inside the first
    assert tuple(pixels[30, 30]) == tuple(pixels[5, 5]) == (100, 100, 100)


def tile(name, shape, label=0):
    mask = np.zeros(shape[:2], np.uint8)
    mask[4:-4, 4:-4] = label
    return Tile(name, np.full(shape, 100, np.uint8), mask)


def test_a_strip_for_each_group_with_captions_pictures_and_outlines(tmp_path):
    strips = [
        ("sex=female: 2 patients", [tile("c1", (32, 32, 1), 1), tile("c2", (32, 32), 2)]),
        ("sex=missing: 1 patient", [tile("c3", (32, 16, 3), 1)]),
    ]
    write_sheet(tmp_path / "sheet.png", strips)
    with Image.open(tmp_path / "sheet.png") as page:
        pixels = np.asarray(page)
    assert pixels.shape == (2 * (192 + 26 + 12) + 6, 2 * (192 + 6) + 6, 3)
    first, second = pixels[32 : 32 + 192, 6 : 6 + 192], pixels[32 : 32 + 192, 204 : 204 + 192]
    for drawing, label, other in ((first, 1, 2), (second, 2, 1)):
        assert (drawing == color(label)).all(-1).any() and not (drawing == color(other)).all(-1).any()
        assert (drawing == 100).all(-1).mean() > 0.7  # outlines, not tints
    captions = pixels[6:32], pixels[6 + 230 : 32 + 230]
    assert all((strip == 0).all(-1).any() for strip in captions)  # written
    beside = pixels[6 + 230 + 26 : 6 + 230 + 26 + 192, 6 + 96 :]  # a narrow film, and no second
    assert (beside == 255).all()


def test_the_worst_of_all_then_best_median_and_worst_of_each_level():
    score = {"a": 0.9, "b": 0.5, "c": 0.7, "d": 0.8, "e": None, "f": 0.6}
    table = pd.DataFrame(list(score.items()) * 2, columns=["case_id", "dice"])
    table["structure"] = ["femur"] * 6 + ["tibia"] * 6
    table["sex"] = groups.categorical(table["case_id"].map(dict(zip("abcdef", "mffffm", strict=True))))
    choices = [(c.group, c.rank, c.case_id) for c in choose(table, ["sex"], worst=2)]
    assert choices == [
        ("all", "1", "b"),
        ("all", "2", "f"),
        ("sex=f", "best", "d"),
        ("sex=f", "median", "c"),
        ("sex=f", "worst", "b"),
        ("sex=m", "best", "a"),
        ("sex=m", "worst", "f"),
    ]
