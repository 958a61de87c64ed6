"""Contours of discs and squares by hand, distances by brute force."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kneefair_jax.measurements import contours


def disc(radius, center, shape=(120, 100), spacing=(1.0, 1.0)):
    y = (np.arange(shape[0]) + 0.5)[:, None] * spacing[0] - center[0]
    x = (np.arange(shape[1]) + 0.5)[None] * spacing[1] - center[1]
    return np.hypot(y, x) - radius


@pytest.mark.parametrize("spacing", [(1.0, 1.0), (0.5, 0.25)])
def test_a_disc_has_its_center_area_and_radius(spacing):
    center = 60 * spacing[0], 50 * spacing[1]
    radius = 30 * min(spacing)
    outline = contours.contour(disc(radius, center, spacing=spacing) < 0, spacing)
    assert contours.centroid(outline.points) == pytest.approx(center[::-1], abs=0.05 * min(spacing))
    assert abs(contours.area(outline.points)) == pytest.approx(np.pi * radius**2, rel=0.005)
    errors = np.hypot(*(outline.points - center[::-1]).T) - radius
    assert np.abs(errors).max() < 0.6 * max(spacing)
    assert abs(errors.mean()) < 0.03 * max(spacing)
    assert not outline.is_cut.any()
    assert outline.other_pieces == 0


def test_the_level_of_probabilities_is_found_between_pixels():
    for radius in (20.0, 20.3, 20.6):
        probability = np.clip(0.5 - disc(radius, (60, 50)) / 4, 0, 1)
        outline = contours.contour(probability, (1.0, 1.0))
        errors = np.hypot(*(outline.points - (50, 60)).T) - radius
        assert np.abs(errors).max() < 0.02


def test_the_film_cuts_a_bone_at_its_edge():
    outline = contours.contour(disc(30, (60, 80)) < 0, (1.0, 1.0))
    assert outline.points[outline.is_cut, 0].min() > 88  # corners at x = 100, rounded over seven vertices
    assert outline.is_cut[outline.points[:, 0] > 99].all()
    inner = outline.points[:, 0] < 85
    assert not outline.is_cut[inner].any()


@pytest.mark.parametrize("side", ["top", "bottom", "left", "right"])
def test_each_edge_of_the_film_cuts(side):
    mask = np.zeros((40, 50), bool)
    mask[10:30, 10:40] = True
    rows, columns = {
        "top": (np.s_[:30], np.s_[10:40]),
        "bottom": (np.s_[10:], np.s_[10:40]),
        "left": (np.s_[10:30], np.s_[:40]),
        "right": (np.s_[10:30], np.s_[10:]),
    }[side]
    mask[rows, columns] = True
    outline = contours.contour(mask, (1.0, 1.0))
    reached = {
        "top": outline.points[:, 1] < 0.2,
        "bottom": outline.points[:, 1] > 39.8,
        "left": outline.points[:, 0] < 0.2,
        "right": outline.points[:, 0] > 49.8,
    }[side]
    assert reached.any()
    assert outline.is_cut[reached].all()
    assert abs(contours.area(outline.points)) == pytest.approx(mask.sum(), rel=0.02)


def test_a_bone_in_pieces_has_the_contour_of_the_largest():
    mask = disc(20, (40, 40)) < 0
    speck = disc(10, (100, 80)) < 0
    outline = contours.contour(mask | speck, (1.0, 1.0))
    assert contours.centroid(outline.points) == pytest.approx((40, 40), abs=0.1)
    assert outline.other_pieces == pytest.approx(0.2, abs=0.01)


def test_an_empty_or_tiny_mask_has_none():
    assert contours.contour(np.zeros((20, 20), bool), (1.0, 1.0)) is None
    tiny = np.zeros((20, 20), bool)
    tiny[5:8, 5:8] = True
    assert contours.contour(tiny, (1.0, 1.0)) is None


@pytest.mark.parametrize(
    "bone", [np.zeros((4, 4), np.uint8), np.zeros(4, bool), np.full((4, 4), 1.5), np.full((4, 4), np.nan)]
)
def test_other_arrays_are_refused(bone):
    with pytest.raises(ValueError, match=r"bool\[H, W\]|\[0, 1\]"):
        contours.contour(bone, (1.0, 1.0))


def test_crossings_are_the_outermost():
    # A U: two legs, joined at the bottom.
    polygon = np.array([[0, 0], [10, 0], [10, 8], [7, 8], [7, 2], [3, 2], [3, 8], [0, 8]], float)[:, ::-1]
    low, high, first, last = contours.crossings(polygon, np.array([1.0, 5.0, 9.0]))
    assert low.tolist()[:2] == [0, 0]
    assert high.tolist()[:2] == [10, 10]
    assert np.isnan([low[2], high[2]]).all()
    assert (first[0], last[0]) == (7, 1)


@given(
    st.lists(st.tuples(st.integers(-4, 4), st.integers(-4, 4)), min_size=3, max_size=12),
    st.lists(st.sampled_from([-4.0, -2.5, -1.0, 0.0, 0.25, 2.0, 4.0]), min_size=1, max_size=7, unique=True),
)
def test_crossings_are_those_of_each_edge(points, levels):
    """Vertices on a level and edges along one included: an edge has its lower end, and not its upper one."""
    points, levels = np.array(points, float), np.array(sorted(levels))
    low, high, first, last = contours.crossings(points, levels)
    for row, level in enumerate(levels):
        crossed = {}
        for edge, (a, b) in enumerate(zip(points, np.roll(points, -1, axis=0), strict=True)):
            if min(a[0], b[0]) <= level < max(a[0], b[0]):
                crossed[edge] = a[1] + (level - a[0]) * (b[1] - a[1]) / (b[0] - a[0])
        if not crossed:
            assert np.isnan([low[row], high[row]]).all()
            continue
        assert (low[row], high[row]) == pytest.approx((min(crossed.values()), max(crossed.values())))
        assert crossed[first[row]] == pytest.approx(low[row])
        assert crossed[last[row]] == pytest.approx(high[row])


POINTS = st.lists(st.tuples(st.floats(-9, 9), st.floats(-9, 9)), min_size=2, max_size=6)


@given(POINTS, POINTS)
def test_distances_are_those_of_dense_points(points, line):
    points, line = np.array(points), np.array(line)
    result, nearest = contours.distance(points, line)
    share = np.linspace(0, 1, 200)[:, None]
    dense = np.concatenate([a + share * (b - a) for a, b in itertools.pairwise(line)])
    expected = np.linalg.norm(points[:, None] - dense, axis=-1).min(axis=1)
    assert (result <= expected + 1e-9).all()
    assert result == pytest.approx(expected, abs=0.15)
    assert np.linalg.norm(points - nearest, axis=1) == pytest.approx(result, abs=1e-6)
