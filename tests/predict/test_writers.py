"""Outdated files of a film are deleted, and nothing else."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from kneefair_jax import anatomy
from kneefair_jax.predict import __main__ as command
from kneefair_jax.predict.areas import COLUMNS, Areas, file_id
from kneefair_jax.predict.films import Input
from kneefair_jax.predict.session import Session, Settings
from tests.predict.networks import write


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    return str(write(tmp_path_factory.mktemp("weights") / "w.safetensors", anatomy.SCHEMES["knee_overlaps"]))


@pytest.fixture
def item(tmp_path):
    picture = np.random.default_rng(0).integers(0, 256, (24, 48), dtype=np.uint8)
    Image.fromarray(picture).save(tmp_path / "a.png")
    return Input(tmp_path / "a.png", "a")


@pytest.fixture
def out(tmp_path):
    (tmp_path / "out").mkdir()
    return tmp_path / "out"


def files(out):
    return {
        str(path.relative_to(out)) for path in out.rglob("*") if path.is_file() and path.name[0] not in "."
    }


def test_one_film_after_several_runs_has_the_files_of_the_last(out, weights, item):
    options = ["--checkpoint", weights, "--images", str(item.path), "--out", str(out), "--overwrite"]
    bones = [f"a_{name.replace(' ', '_')}" for name in anatomy.UNIONS]
    whole = {f"outlines/{bone}.png" for bone in bones}
    halves = {f"outlines/a_{side}{bone[1:]}.png" for side in ("right", "left") for bone in bones}
    for more, expected in [
        (["--outlines"], {"masks/a.png", "overlays/a.png"} | whole),
        (["--outlines", "--knees", "both"], {"masks/a.png", "overlays/a.png"} | halves),
        (["--format", "nifti", "--no-overlays"], {"masks/a.nii.gz"}),
        ([], {"masks/a.png", "overlays/a.png"}),
    ]:
        assert command.main([*options, *more]) == 0
        assert files(out) == {"areas.csv"} | expected


def touch(out, *names):
    for name in names:
        (out / name).parent.mkdir(parents=True, exist_ok=True)
        (out / name).touch()


def add(table, path, *results):
    empty = [""] * (len(COLUMNS) - 5)
    table.add([[str(path), file_id(path), "femur", "1", *empty, result] for result in results])


def session(out, table, films=()):
    return Session(None, Settings(), out, table, None, "", frozenset(films))


def test_files_of_other_films_stay(out, item):
    foreign = {"masks/a_b.png", "masks/a.png.bak", "masks/a.tif", "outlines/a.png", "overlays/a.jpg", "a.png"}
    owned = {"masks/a_right.png", "outlines/a_right_whole_femur.png", "masks/b/a.dcm"}
    touch(
        out,
        *foreign,
        *owned,
        "masks/a.png",
        "masks/a.dcm",
        "outlines/a.dcm",
        "outlines/a_whole_tibia.nii.gz",
    )
    with Areas(out) as table:
        add(table, item.path, "masks/a.png")
        add(table, Path("a_right.png"), "masks/a_right.png", "outlines/a_right_whole_femur.png")
        session(out, table).delete_outdated(item, (out / "masks/a.png",))
        assert files(out) == {"areas.csv", "masks/a.png"} | foreign | owned


def test_films_and_masks_that_belong_to_another_film_stay(out, item):
    touch(out, "masks/a.png", "masks/a.dcm", "overlays/a.png")
    before = files(out)
    with Areas(out) as table:
        films = {str((out / name).resolve()) for name in before}
        session(out, table, films).delete_outdated(item)
        assert files(out) == before | {"areas.csv"}
        add(table, Path("others/a.png"), "masks/a.png")
        session(out, table).delete_outdated(item)
        assert files(out) == before | {"areas.csv"}


def test_a_name_that_is_too_long_with_a_bone_has_no_file(out, item):
    name = "a" * 245
    touch(out, f"masks/{name}.png", f"masks/{name}.dcm")
    with Areas(out) as table:
        session(out, table).delete_outdated(item._replace(name=name), (out / f"masks/{name}.png",))
        assert files(out) == {"areas.csv", f"masks/{name}.png"}
