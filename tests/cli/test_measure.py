"""`kneefair measure`: the table, the overlays, and what it refuses."""

import shutil

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from kneefair_jax.cli import main, measure
from kneefair_jax.measurements import MEASUREMENTS
from tests.measurements.knees import knee

PIXEL = 0.5


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Two masks with their films, `a.png` and `site/b.png`."""
    root = tmp_path_factory.mktemp("knees")
    for name, side in (("a", "left"), ("site/b", "right")):
        bones = knee(pixel=PIXEL, side=side)
        label = np.zeros(bones["femur"].shape, np.uint8)
        for value, bone in ((3, "fibula"), (2, "tibia"), (1, "femur"), (4, "patella")):
            label[bones[bone]] = value
        film = np.random.default_rng(0).integers(0, 255, label.shape).astype(np.uint8)
        for kind, pixels in (("masks", label), ("films", film)):
            path = root / kind / f"{name}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(path)
    return root


def run(*words):
    with pytest.raises(SystemExit) as stop:
        main.run(["kneefair", "measure", *map(str, words)])
    return stop.value.code or 0


def test_the_table_and_the_overlays(folder, tmp_path, capsys):
    out = tmp_path / "out"
    words = (folder / "masks", "--images", folder / "films", "--spacing", PIXEL, "--out", out)
    assert run(*words) == 0
    table = pd.read_csv(out / measure.TABLE, keep_default_na=False, na_values={"value": ""})
    assert len(table) == 2 * len(MEASUREMENTS)
    assert set(table["case_id"]) == {"a", "site/b"}
    widths = table.loc[table["measurement"] == "bicondylar_width", "value"]
    assert widths.tolist() == pytest.approx([84, 84], abs=0.3)
    assert set(table["reason"]) == {""}
    assert {path.relative_to(out / "overlays").as_posix() for path in (out / "overlays").rglob("*.png")} == {
        "a.png",
        "site/b.png",
    }
    assert "bicondylar_width" in capsys.readouterr().out
    assert run(*words) == 2  # an earlier result is kept
    assert run(*words, "--overwrite") == 0


def test_a_table_states_spacing_side_and_magnification(folder, tmp_path):
    metadata = tmp_path / "metadata.csv"
    pd.DataFrame({"case_id": ["a", "b"], "spacing_mm": [PIXEL, ""], "side": ["left", "R"]}).to_csv(
        metadata, index=False
    )
    assert run(folder / "masks", "--metadata", metadata, "--out", tmp_path / "out", "--no-overlays") == 0
    table = pd.read_csv(tmp_path / "out" / measure.TABLE)
    widths = table[table["measurement"] == "patella_width"].set_index("case_id")
    assert widths.loc["a", "value"] == pytest.approx(44, abs=0.3)
    assert np.isnan(widths.loc["site/b", "value"])
    assert "spacing" in widths.loc["site/b", "reason"]
    assert widths["spacing_kind"].tolist() == ["table", "unknown"]
    assert not (tmp_path / "out" / "overlays").exists()


@pytest.mark.parametrize(
    "words",
    [
        ("--spacing", "9"),
        ("--magnification", "3"),
        ("--spacing", "0.5", "--magnification", "1.2"),
        ("--labels", "a=1"),
        ("--images", "nowhere"),
        ("--metadata", "table.csv"),
    ],
    ids=lambda words: words[0],
)
def test_bad_input_writes_nothing(folder, tmp_path, monkeypatch, capsys, words):
    monkeypatch.chdir(tmp_path)
    pd.DataFrame({"case_id": ["a"], "side": ["left"]}).to_csv("table.csv", index=False)  # lacks b
    assert run(folder / "masks", *words, "--out", "out") == 2
    assert capsys.readouterr().err
    assert not (tmp_path / "out" / measure.TABLE).exists()


def test_a_mask_that_cannot_be_read_is_skipped(folder, tmp_path, capsys):
    shutil.copytree(folder / "masks", tmp_path / "masks")
    (tmp_path / "masks/broken.png").write_bytes(b"no picture")
    out = tmp_path / "out"
    assert run(tmp_path / "masks", "--spacing", PIXEL, "--out", out, "--no-overlays") == measure.SOME_FAILED
    assert set(pd.read_csv(out / measure.TABLE)["case_id"]) == {"a", "site/b"}
    assert "broken.png" in capsys.readouterr().err
    assert run(tmp_path / "masks/broken.png", "--out", tmp_path / "other") == 2
    assert not (tmp_path / "other" / measure.TABLE).exists()


def test_ignored_pixels_cut_a_bone(folder, tmp_path):
    label = np.array(Image.open(folder / "masks/a.png"))
    columns = np.flatnonzero((label == 1).any(axis=0))
    label[:, : columns[0] + 10] = 255
    Image.fromarray(label).save(tmp_path / "a.png")
    words = [tmp_path / "a.png", "--spacing", PIXEL, "--labels", "knee", "ignore=255", "--no-overlays"]
    assert run(*words, "--out", tmp_path / "out") == 0
    table = pd.read_csv(tmp_path / "out" / measure.TABLE).set_index("measurement")
    assert np.isnan(table["value"]["bicondylar_width"])
    assert "cuts" in table["reason"]["bicondylar_width"]


def test_a_film_that_cannot_be_read_leaves_the_measurements(folder, tmp_path, capsys):
    (tmp_path / "films").mkdir()
    (tmp_path / "films/a.png").write_bytes(b"no picture")
    words = [folder / "masks/a.png", "--images", tmp_path / "films", "--spacing", PIXEL]
    assert run(*words, "--out", tmp_path / "out") == measure.SOME_FAILED
    assert pd.read_csv(tmp_path / "out" / measure.TABLE)["value"].notna().any()
    assert "films" in capsys.readouterr().err


def test_two_masks_of_one_name_are_refused(folder, tmp_path, capsys):
    assert run(folder / "masks" / "a.png", folder / "masks", "--out", tmp_path / "out") == 2
    assert "'a'" in capsys.readouterr().err
