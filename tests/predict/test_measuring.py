"""Measurements of segmented films: values, sides and spacings, their table, and their lines on an overlay."""

import csv

import numpy as np
import pytest
from PIL import Image

from kneefair_jax.errors import InputError
from kneefair_jax.measurements import MEASUREMENTS
from kneefair_jax.predict import films, measuring, writers
from kneefair_jax.predict import prediction as predictions
from kneefair_jax.predict.prediction import Outline, Prediction
from tests.measurements.knees import WIDTH, knee

STRUCTURES = ("femur", "tibia", "fibula", "patella")
PIXEL = 0.25


def prediction(*, outlines=False, **shape):
    bones = knee(pixel=PIXEL, **shape)
    mask = np.zeros(bones["femur"].shape, np.uint8)
    for label, name in enumerate(STRUCTURES, start=1):
        mask[bones[name]] = label
    whole = {f"whole {name}": Outline(bones[name], 1.0) for name in ("femur", "patella")} if outlines else {}
    return Prediction(mask, dict.fromkeys(STRUCTURES, 1.0), outlines=whole)


@pytest.fixture
def film(tmp_path):
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (900, 600), dtype=np.uint8)).save(
        tmp_path / "film.png"
    )
    return films.read(tmp_path / "film.png")


def spaced(film, mm, kind):
    spacing = np.full(2, mm, np.float32)
    return film._replace(bone_spacing=spacing, bone_spacing_kind=kind)


@pytest.mark.parametrize("outlines", [False, True])
def test_values_of_a_film_whose_spacing_is_stated(film, outlines):
    result = measuring.measure_film(
        films.with_stated_spacing(film, np.full(2, PIXEL, np.float32)),
        prediction(outlines=outlines, medial=3.0, lateral=6.0),
        np.nan,
    )
    assert result.pixel.kind == films.STATED
    (measurements,) = result.knees.values()
    assert measurements["bicondylar_width"].value == pytest.approx(WIDTH, abs=0.15)
    assert measurements["jsw_min_medial"].value == pytest.approx(3.0, abs=0.15)
    assert measurements["fta"].value == pytest.approx(6 - np.rad2deg(np.arctan(3 / 46)), abs=0.6)


def test_the_spacing_of_the_detector_needs_a_magnification(film):
    on_detector = spaced(film, PIXEL * 1.1, "detector")
    refused = measuring.measure_film(on_detector, prediction(), np.nan).knees[""]
    assert "detector" in refused["jsw_min_medial"].reason and refused["fta"].reason == ""
    corrected = measuring.measure_film(on_detector, prediction(), 1.1).knees[""]
    assert corrected["bicondylar_width"].value == pytest.approx(WIDTH, abs=0.15)


def test_a_side_that_the_header_states_is_checked_by_the_fibula(film):
    assert (
        measuring.measure_film(film._replace(laterality="L"), prediction(), np.nan).knees[""]["fta"].reason
        == ""
    )
    wrong = measuring.measure_film(film._replace(laterality="R"), prediction(), np.nan)
    assert "mirrored" in wrong.knees[""]["fta"].reason


def test_both_knees_of_a_film(film):
    both = predictions.join_halves(prediction(side="right"), prediction(side="left", medial=2.0))
    result = measuring.measure_film(spaced(film, PIXEL, "calibrated"), both, np.nan)
    assert list(result.knees) == ["right", "left"]
    assert result.knees["right"]["jsw_min_medial"].value == pytest.approx(5.0, abs=0.15)
    assert result.knees["left"]["jsw_min_medial"].value == pytest.approx(2.0, abs=0.15)


def test_the_table_keeps_the_latest_rows_of_a_film(film, tmp_path):
    item = films.Input(film.path, "film")
    results = [
        measuring.measure_film(spaced(film, PIXEL, "calibrated"), prediction(medial=medial), np.nan)
        for medial in (5.0, 3.0)
    ]
    for result in results:
        with measuring.Measurements(tmp_path) as table:
            table.add(item, result)
    with (tmp_path / measuring.FILE).open(newline="") as file:
        rows = {row["measurement"]: row for row in csv.DictReader(file)}
    assert list(rows) == list(MEASUREMENTS)
    assert float(rows["jsw_min_medial"]["value"]) == pytest.approx(3.0, abs=0.15)
    assert rows["jsw_min_medial"]["spacing_kind"] == "calibrated"
    with measuring.Measurements(tmp_path) as table:
        table.discard(film.path)
    assert not (tmp_path / measuring.FILE).exists()


def test_another_table_of_this_name_is_refused(tmp_path):
    (tmp_path / measuring.FILE).write_text("case_id,value\n1,2\n")
    with pytest.raises(InputError, match=measuring.FILE):
        measuring.Measurements(tmp_path)


def test_lines_and_values_are_drawn_on_the_overlay(film, tmp_path):
    segmented = prediction()
    film = spaced(film._replace(image=np.zeros((*segmented.mask.shape, 1), np.uint8)), PIXEL, "calibrated")
    result = measuring.measure_film(film, segmented, np.nan)
    pictures = []
    for name, measurements in (("with", result), ("without", None)):
        writers.overlay(tmp_path / f"{name}.png", segmented.mask, film, STRUCTURES, measurements=measurements)
        pictures.append(np.asarray(Image.open(tmp_path / f"{name}.png")).astype(int))
    scale = pictures[0].shape[1] / segmented.mask.shape[1]
    for end in result.knees[""]["bicondylar_width"].lines[0] / PIXEL * scale:
        x, y = np.rint(end).astype(int)
        part = np.s_[y - 2 : y + 3, x - 2 : x + 3]
        assert (pictures[0][part] != pictures[1][part]).any()
