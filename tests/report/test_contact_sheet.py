import numpy as np
from PIL import Image

from kneefair_jax.report import contact_sheet
from kneefair_jax.report.overlays import color


def tile(name, shape, label=0):
    mask = np.zeros(shape[:2], np.uint8)
    mask[4:-4, 4:-4] = label
    return contact_sheet.Tile(name, np.full(shape, 100, np.uint8), mask)


def test_a_strip_for_each_group_with_captions_pictures_and_outlines(tmp_path):
    strips = [
        ("sex=female: 2 patients", [tile("c1", (32, 32, 1), 1), tile("c2", (32, 32), 2)]),
        ("sex=missing: 1 patient", [tile("c3", (32, 16, 3), 1)]),
    ]
    contact_sheet.write(tmp_path / "sheet.png", strips)
    with Image.open(tmp_path / "sheet.png") as page:
        pixels = np.asarray(page)
    assert pixels.shape == (2 * (192 + 26 + 12) + 6, 2 * (192 + 6) + 6, 3)
    first, second = pixels[32 : 32 + 192, 6 : 6 + 192], pixels[32 : 32 + 192, 204 : 204 + 192]
    for drawn, label, other in ((first, 1, 2), (second, 2, 1)):
        assert (drawn == color(label)).all(-1).any() and not (drawn == color(other)).all(-1).any()
        assert (drawn == 100).all(-1).mean() > 0.7  # outlines, not tints
    captions = pixels[6:32], pixels[6 + 230 : 32 + 230]
    assert all((strip == 0).all(-1).any() for strip in captions)  # written
    beside = pixels[6 + 230 + 26 : 6 + 230 + 26 + 192, 6 + 96 :]  # a narrow film, and no second
    assert (beside == 255).all()
