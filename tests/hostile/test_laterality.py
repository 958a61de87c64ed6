"""Side tags of DICOM films against what is segmented, and against the cohort's table."""

import csv

import numpy as np
import pytest
from PIL import Image

from kneefair_jax.predict import __main__ as predict
from tests.hostile import films
from tests.hostile.test_geometry import checked, no_timing, weights
from tests.predict import networks

__all__ = ["no_timing", "weights"]

pytestmark = pytest.mark.usefixtures("terminal_log")


def warnings(weights, folder, out, *more):
    """The warning of each film by its name, and whether both knees were segmented."""
    given = ["--checkpoint", *weights, "--images", folder, "--out", out, "--no-overlays", *more]
    assert predict.main([str(word) for word in given]) == 0
    rows = list(csv.DictReader((out / "areas.csv").read_text().splitlines()))
    texts, both = {}, {}
    for row in rows:
        name = row["file"].rpartition("/")[2].removesuffix(".dcm")
        texts[name] = texts.get(name, "") + row["warning"]
        both[name] = both.get(name, False) or row["structure"].startswith("left ")
    return texts, both


def test_a_film_of_one_knee_that_is_split_is_noted(tmp_path, weights):
    pair = np.hstack([films.bright(0), films.bright(1)])
    folder = tmp_path / "films"
    films.dicom(folder / "tag.dcm", pair, ImageLaterality="B")
    films.dicom(folder / "series.dcm", pair, SeriesDescription="Bilateral PA", ImageLaterality="L")
    films.dicom(folder / "study.dcm", pair, StudyDescription="Bilateral knees", Laterality="L")
    films.dicom(folder / "contradiction.dcm", pair, ImageLaterality="L", Laterality="R")
    texts, both = warnings([weights], folder, tmp_path / "auto")
    assert both == {"tag": True, "series": True, "study": False, "contradiction": False}
    assert "states the left knee alone" in texts["series"]
    assert "contradict" in texts["contradiction"]
    assert not any("knee alone" in texts[name] for name in ("tag", "study", "contradiction"))
    texts, both = warnings([weights], folder, tmp_path / "both", "--knees", "both")
    assert all(both.values())
    assert [name for name in texts if "knee alone" in texts[name]] == ["series", "study"]


def test_a_side_other_than_that_of_the_run_is_noted(tmp_path):
    structures = ("femur", "tibia", "fibula", "patella")
    of_side = [
        networks.write(tmp_path / "w" / f"{side}.safetensors", structures, group=f"side={side}")
        for side in ("left", "right")
    ]
    for side in "RL":
        films.dicom(tmp_path / "films" / f"{side}.dcm", films.bright(), ImageLaterality=side)
    texts, _ = warnings(of_side[:1], tmp_path / "films", tmp_path / "out", "--group", "side=left")
    assert "states the right knee" in texts["R"] and "side=left" in texts["R"]
    assert "side=left" not in texts["L"]


@pytest.mark.parametrize("column", ["side", "laterality"])
def test_a_side_other_than_that_of_the_table_is_noted(tmp_path, no_timing, capsys, column):
    rows = []
    (tmp_path / "masks").mkdir()
    for n in range(24):
        name, side = f"c{n:02d}", "RL"[n % 2]
        films.dicom(tmp_path / "images" / f"{name}.dcm", films.bright(n), ImageLaterality=side)
        Image.fromarray(films.knee(n)[1]).save(tmp_path / "masks" / f"{name}.png")
        stated = {3: "right", 8: ""}.get(n, {"R": "right", "L": "left"}[side])
        rows.append(f"{name},p{n:02d},images/{name}.dcm,masks/{name}.png,{'fm'[n % 2]},{stated}")
    films.table(tmp_path / "metadata.csv", f"case_id,patient_id,image,mask,sex,{column}", rows)
    (note,) = checked(tmp_path, tmp_path / "run")["headers"]
    assert "states the left knee" in note and "1 of 24 cases" in note and "c03" in note
    assert note in capsys.readouterr().out
