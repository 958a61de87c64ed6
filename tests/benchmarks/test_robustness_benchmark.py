"""Windows of a film, and which bones a changed film shows."""

import numpy as np
import pytest

from benchmarks import robustness

MEMBERS = np.array([[False, True]])


def film(side, fov):
    """A square of half the side in the middle, of label 1 and white."""
    label = np.zeros((side, side), np.uint8)
    label[side // 4 : 3 * side // 4, side // 4 : 3 * side // 4] = 1
    return robustness.Film(255 * label, label, fov)


@pytest.mark.parametrize("side", [96, 192])
def test_a_window_has_a_third_of_the_side_and_its_own_field_of_view(side):
    """The square is 140 mm wide; a field of view of 280 mm shows it whole, one of 70 mm nothing else."""
    whole = robustness.window(film(side, 280.0), fov=280.0)
    assert whole.image.shape == (side // 3, side // 3) and whole.fov == 280
    assert whole.label.mean() == pytest.approx(0.25, abs=0.03)
    assert (robustness.window(film(side, 280.0), fov=70.0).label == 1).all()


def test_the_outline_excludes_the_edge_of_the_picture():
    mask = np.zeros((8, 8), bool)
    mask[4:] = True  # its outline is one row of 8 pixels
    assert robustness.outline_mm(mask, 16.0) == 16.0


def test_a_bone_is_visible_with_half_its_outline_and_200_square_millimetres():
    before = film(64, 128.0)  # 32 x 32 pixels of 2 mm: 4,096 mm2, outline 124 pixels, 248 mm
    shift = np.zeros_like(before.label)
    shift[:, 48:] = before.label[
        :, 16:32
    ]  # half of the square at the edge: 16 + 32 + 16 - 2 = 62 pixels, one half
    less = np.zeros_like(before.label)
    less[:, 50:] = before.label[:, 16:30]  # 58 pixels
    small = robustness.Film(before.image, before.label, 24.0)  # 144 mm2
    films = [before, before._replace(label=shift), before._replace(label=less), small]
    rows = robustness.visible(MEMBERS, films, [before, before, before, small])
    assert rows[:, 0].tolist() == [True, True, False, False]
