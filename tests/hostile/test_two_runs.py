"""Two runs of predict into one folder, at once or in turn: no row of `areas.csv` is lost."""

import csv
import fcntl

import numpy as np
import pytest
from PIL import Image

from kneefair_jax.predict import __main__ as predict
from kneefair_jax.predict.areas import COLUMNS
from tests.predict.networks import write


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    return str(write(tmp_path_factory.mktemp("weights") / "w.safetensors"))


@pytest.fixture
def films(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for folder in ("first", "second"):
        (tmp_path / folder).mkdir()
    for name in ("first/a", "first/b", "second/c", "second/a"):
        noise = np.random.default_rng(len(name)).integers(0, 256, (20, 30), dtype=np.uint8)
        Image.fromarray(noise).save(tmp_path / f"{name}.png")
    return tmp_path


def run(weights, *images, more=("--overwrite",)):
    return predict.main(
        ["--checkpoint", weights, "--out", "out", "--no-overlays", *more, "--images", *images]
    )


def files(folder):
    rows = list(csv.DictReader((folder / "out/areas.csv").read_text().splitlines()))
    assert tuple(rows[0]) == COLUMNS
    names = [row["file"] for row in rows]
    assert all(names.count(name) == 3 for name in names)  # structures
    return sorted(set(names)), rows


def test_a_second_run_adds_its_rows_and_replaces_those_of_the_same_file(films, weights):
    assert run(weights, "first") == 0
    assert run(weights, "second/c.png") == 0
    assert files(films)[0] == ["first/a.png", "first/b.png", "second/c.png"]
    before = files(films)[1]
    Image.fromarray(np.tile(np.arange(40, dtype=np.uint8), (40, 1))).save(films / "first/b.png")
    assert run(weights, "first/b.png", more=("--format", "nifti", "--overwrite")) == 0
    names, after = files(films)
    assert names == ["first/a.png", "first/b.png", "second/c.png"]
    changed = [row["file"] for row in after if row not in before]
    assert changed == ["first/b.png"] * 3
    assert {row["mask"] for row in after if row["file"] == "first/b.png"} == {"masks/b.nii.gz"}


def test_another_format_is_refused_without_overwrite(films, weights, capsys):
    assert run(weights, "first") == 0
    mask = (films / "out/masks/a.png").read_bytes()
    capsys.readouterr()
    assert run(weights, "first", more=("--format", "nifti")) == 2
    assert "--overwrite" in capsys.readouterr().err
    assert (films / "out/masks/a.png").read_bytes() == mask
    assert run(weights, "first", more=()) == 0  # the same command keeps the results


def test_a_mask_of_another_film_is_not_replaced(films, weights, capsys):
    assert run(weights, "first") == 0
    mask = (films / "out/masks/a.png").read_bytes()
    capsys.readouterr()
    assert run(weights, "second") == 1
    err = capsys.readouterr().err
    assert "second/a.png" in err and "first/a.png" in err and "--out" in err
    assert (films / "out/masks/a.png").read_bytes() == mask
    assert files(films)[0] == ["first/a.png", "first/b.png", "second/c.png"]


def test_films_of_the_same_name_in_two_folders_by_absolute_path(films, weights, capsys):
    first, second = ((films / name).as_posix() for name in ("first", "second"))
    assert run(weights, first) == 0
    names, before = files(films)
    assert names == ["a.png", "b.png"] and "/" not in "".join(row["file_id"] for row in before)
    mask = (films / "out/masks/a.png").read_bytes()
    capsys.readouterr()
    assert run(weights, second) == 1
    assert f"{second}/a.png" in capsys.readouterr().err
    assert (films / "out/masks/a.png").read_bytes() == mask
    assert [row for row in files(films)[1] if row["mask"] != "masks/c.png"] == before
    Image.fromarray(np.tile(np.arange(40, dtype=np.uint8), (40, 1))).save(films / "first/b.png")
    assert run(weights, "first", first) == 0  # the same files, by either path, replace their own rows
    assert [row["mask"] for row in files(films)[1]].count("masks/b.png") == 3


def test_two_at_once(films, weights, capsys):
    (films / "out").mkdir()
    with (films / "out/.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        assert run(weights, "first") == 2
    assert "another process" in capsys.readouterr().err
    assert [path.name for path in (films / "out").iterdir()] == [".lock"]
    assert run(weights, "first") == 0


def test_a_table_that_is_another_s_is_kept(films, weights, capsys):
    (films / "out").mkdir()
    (films / "out/areas.csv").write_text("country,area\nItaly,302\n")
    assert run(weights, "first") == 2
    assert "areas.csv" in capsys.readouterr().err
    assert (films / "out/areas.csv").read_text() == "country,area\nItaly,302\n"


def test_a_table_that_was_cut_off_is_gone_on_with(films, weights):
    assert run(weights, "first/a.png") == 0
    path = films / "out/areas.csv"
    path.write_text(path.read_text()[:-9])  # killed while it wrote the last row
    stale = [
        films / f"out/{name}"
        for name in (".part-0123456789abcdef-areas.csv", "masks/.part-0123456789abcdef-a.png")
    ]
    for other in stale:
        other.touch()
    assert run(weights, "first/b.png") == 0
    rows = list(csv.reader(path.read_text().splitlines()))
    assert {len(row) for row in rows} == {len(COLUMNS)}
    assert [row[0] for row in rows].count("first/b.png") == 3
    assert not any(other.exists() for other in stale)
