import jax
import numpy as np
import pytest

from kneefair_jax.data.phantom import objects, ranges, render

TABLES = {
    "patient": ranges.PATIENT,
    "knee": ranges.KNEE,
    "view": ranges.VIEW,
    "film": ranges.FILM,
    "varied": ranges.VARIED,
}


@pytest.mark.parametrize("name", TABLES)
def test_wide_holds_clinical(name):
    for setting, entry in TABLES[name].items():
        assert entry.clinical[0] <= entry.clinical[1] and entry.wide[0] <= entry.wide[1], setting
        assert entry.wide[0] <= entry.clinical[0] + 1e-9 or setting in ("auto", "log_photons"), setting
        assert entry.wide[1] >= entry.clinical[1] - 1e-9, setting


@pytest.mark.parametrize(("width", "low", "high"), [(0.0, 0.85, 1.2), (1.0, 0.55, 1.7), (0.5, 0.7, 1.45)])
def test_draws_fill_their_range(width, low, high):
    keys = jax.random.split(jax.random.key(0), 4000)
    values = np.asarray(jax.vmap(lambda k: ranges.draw(k, ranges.PATIENT, width)["mineral"])(keys))
    assert low <= values.min() < low + 0.01 and high - 0.01 < values.max() <= high
    assert values.mean() == pytest.approx((low + high) / 2, abs=0.02)


def test_places_go_to_the_film_and_back():
    settings = {"turn": 20.0, "across": 0.1, "down": -0.2, "aspect": 0.4}
    film_view = render.place_knee(settings, True, size=(50, 40), fov_mm=200.0)
    assert film_view.spacing[1] / film_view.spacing[0] == pytest.approx(2**0.4)
    at_y, at_x = film_view.in_knee()
    places = np.stack([at_x.ravel(), at_y.ravel()], axis=1)
    grid = np.stack([np.tile(film_view.x, 50), np.repeat(film_view.y, 40)], axis=1)
    np.testing.assert_allclose(film_view.to_film(places), grid, atol=1e-3)


def test_the_letter_is_that_of_the_side():
    film_view = render.place_knee(
        {"turn": 0.0, "across": 0.0, "down": 0.0, "aspect": 0.0}, False, size=(128, 128), fov_mm=140.0
    )
    film = dict.fromkeys(("hardware", "jewellery", "ruler"), -1.0) | {"marker": 0.5}
    strokes = [
        (np.asarray(objects.in_beam(jax.random.key(1), film, film_view, left, 0.0)) > 1).sum()
        for left in (False, True)
    ]
    # An R has 18 of the 35 cells of its raster, an L 11.
    cells = [objects.BITMAPS[i].sum() for i in (objects.RIGHT, objects.LEFT)]
    assert cells == [18, 11]
    assert strokes[0] / strokes[1] == pytest.approx(18 / 11, rel=0.15)
    assert not np.asarray(
        objects.in_beam(jax.random.key(1), film | {"marker": -0.5}, film_view, False, 0.0)
    ).any()


@pytest.mark.parametrize("left", [False, True])
@pytest.mark.parametrize(
    ("crop", "edge_mm"),
    [(-0.5, 70 - 14), (1e-6, 60), (0.4, 60 - 0.4 * 42), (1.0, 35)],  # at most a quarter off the center
)
def test_a_tight_crop_ends_at_the_lateral_side(left, crop, edge_mm):
    side = 1 if left else -1
    settings = {"turn": 0.0, "across": 0.1 * side, "down": 0.0, "aspect": 0.0}
    film_view = render.place_knee(settings, left, size=(70, 70), fov_mm=140.0, crop=crop)
    _, at_x = film_view.in_knee()
    assert np.max(at_x) == pytest.approx(edge_mm - 1, abs=1e-3)  # the outer pixel's center


def test_a_strip_is_about_the_knee():
    settings = {"turn": 0.0, "across": 0.1, "down": 0.0, "aspect": 0.0}
    film_view = render.place_knee(settings, True, size=(100, 100), fov_mm=200.0)
    assert render.strip(film_view, -0.1).all()
    columns = np.flatnonzero(render.strip(film_view, 1.0))  # 45 mm on either side of 20 mm to the right
    assert (columns[0], columns[-1]) == (38, 81)
