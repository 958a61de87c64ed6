"""Whole bones and drawing conventions of networks with overlap classes."""

import csv

import numpy as np
import pytest
from PIL import Image

from kneefair_jax import anatomy, predict
from kneefair_jax.data import mask_files, readers
from kneefair_jax.errors import InputError
from kneefair_jax.predict import __main__ as command
from kneefair_jax.predict.prediction import Outline, Prediction, join_halves
from tests.predict.networks import write

RNG = np.random.default_rng(0)
IMAGE = np.kron(RNG.integers(0, 256, (8, 10), dtype=np.uint8), np.ones((4, 4), np.uint8))
OVERLAPS = anatomy.SCHEMES["knee_overlaps"]
BONES = anatomy.whole_bones(OVERLAPS)
BACKGROUND, FEMUR, TIBIA, FIBULA, PATELLA, FEMUR_PATELLA, TIBIA_FIBULA = range(7)


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return write(tmp_path_factory.mktemp("weights") / "w.safetensors", OVERLAPS, sure=40.0)


@pytest.fixture(scope="module")
def classes(tmp_path_factory):
    """Probabilities of the same weights whose classes have names of no meaning, f32[16, 16, 7]."""
    same = write(tmp_path_factory.mktemp("weights") / "w.safetensors", tuple("abcdef"), sure=40.0)
    return predict.load(same).probabilities([IMAGE])[0]


@pytest.mark.parametrize(
    ("options", "structures", "sums"),
    [
        ({}, anatomy.SCHEMES["knee"], [[FEMUR], [TIBIA, TIBIA_FIBULA], [FIBULA], [PATELLA, FEMUR_PATELLA]]),
        (
            {"in_front": "fibula"},
            anatomy.SCHEMES["knee"],
            [[FEMUR], [TIBIA], [FIBULA, TIBIA_FIBULA], [PATELLA, FEMUR_PATELLA]],
        ),
        (
            {"whole_femur": True},
            ("whole femur", "tibia", "fibula"),
            [[FEMUR, FEMUR_PATELLA], [TIBIA, TIBIA_FIBULA], [FIBULA]],
        ),
    ],
)
def test_a_mask_shows_the_bone_in_front(path, classes, options, structures, sums):
    predictor = predict.load(path, **options)
    assert predictor.structures == structures
    expected = np.stack([classes[..., parts].sum(-1) for parts in sums], -1)
    np.testing.assert_allclose(predictor.probabilities([IMAGE])[0][..., 1:], expected, atol=1e-5)
    assert predictor.predict([IMAGE])[0].outlines == {}


def test_whole_bones_overlap(path, classes):
    (prediction,) = predict.load(path, outlines=True, raw=True).predict([IMAGE])
    assert tuple(prediction.outlines) == BONES and tuple(prediction.confidence) == anatomy.SCHEMES["knee"]
    pairs = [[FEMUR, FEMUR_PATELLA], [TIBIA, TIBIA_FIBULA], [FIBULA, TIBIA_FIBULA], [PATELLA, FEMUR_PATELLA]]
    for pair, outline in zip(pairs, prediction.outlines.values(), strict=True):
        p = classes[..., pair].sum(-1)
        fine = np.asarray(Image.fromarray(p).resize(IMAGE.shape[::-1], Image.Resampling.BILINEAR))
        assert outline.mask.shape == IMAGE.shape and outline.mask.dtype == bool
        clear = abs(fine - 0.5) > 1e-4
        np.testing.assert_array_equal(outline.mask[clear], (fine > 0.5)[clear])
        np.testing.assert_allclose(
            outline.confidence, p[p > 0.5].mean() if (p > 0.5).any() else np.nan, rtol=1e-4
        )
    drawn = np.stack([outline.mask for outline in prediction.outlines.values()])
    assert (drawn.sum(0) > 1).any()


@pytest.mark.parametrize("options", [{"outlines": True}, {"in_front": "fibula"}, {"in_front": "tibia"}])
def test_a_network_without_overlap_classes_is_refused(tmp_path, options):
    with pytest.raises(InputError, match="no overlap classes"):
        predict.load(write(tmp_path / "w.safetensors"), **options)


def test_both_knees_have_outlines_of_their_own():
    def half(value):
        mask = np.full((2, 3), bool(value))
        label = np.full((2, 3), 1, np.uint8)
        return Prediction(label, {"femur": 0.9}, (), {"whole femur": Outline(mask, value)})

    film = join_halves(half(0.75), half(0.5))
    assert [*film.outlines] == ["right whole femur", "left whole femur"]
    right, left = film.outlines.values()
    assert right.mask.tolist() == [[True] * 3 + [False] * 3] * 2 and right.confidence == 0.75
    assert left.mask.tolist() == [[False] * 3 + [True] * 3] * 2 and left.confidence == 0.5


def test_files_of_whole_bones(tmp_path, path):
    Image.fromarray(IMAGE).save(tmp_path / "a.png")
    given = ["--checkpoint", str(path), "--images", str(tmp_path / "a.png"), "--out", str(tmp_path / "out")]
    assert command.main([*given, "--outlines", "--no-overlays"]) == 0
    (prediction,) = predict.load(path, outlines=True).predict([IMAGE])
    case = mask_files.find_mask(tmp_path / "out" / "outlines" / "a", BONES)
    assert tuple(case.files) == BONES
    with (tmp_path / "out" / "areas.csv").open() as file:
        rows = {row["structure"]: row for row in csv.DictReader(file)}
    assert tuple(rows) == (*anatomy.SCHEMES["knee"], *BONES)
    for name, outline in prediction.outlines.items():
        np.testing.assert_array_equal(readers.read_mask(case.files[name]) == 1, outline.mask)
        assert int(rows[name]["area_pixels"]) == outline.mask.sum() and rows[name]["label"] == "1"
        assert tmp_path / "out" / rows[name]["mask"] == case.files[name]


def test_options_of_whole_bones_have_different_digests(path):
    options = ({}, {"outlines": True}, {"in_front": "fibula"}, {"fit": "pad"}, {"whole_femur": True})
    digests = [predict.load(path, **chosen).digest() for chosen in options]
    assert len(set(digests)) == len(options)
    assert predict.load(path, outlines=True, batch_size=3).digest() == digests[1]


@pytest.mark.parametrize("options", [[], ["--whole-femur"]])
def test_a_second_run_keeps_whole_bones_until_one_is_gone(tmp_path, path, capsys, options):
    Image.fromarray(IMAGE).save(tmp_path / "film.png")
    out = tmp_path / "out"
    argv = [
        "--checkpoint",
        str(path),
        "--images",
        str(tmp_path / "film.png"),
        "--out",
        str(out),
        "--outlines",
        *options,
    ]

    def is_kept():
        capsys.readouterr()
        assert command.main(argv) == 0
        return "kept" in capsys.readouterr().out

    assert [is_kept(), is_kept()] == [False, True]
    (out / "outlines/film_whole_tibia.png").unlink()
    assert [is_kept(), is_kept()] == [False, True]
    assert (out / "outlines/film_whole_tibia.png").exists()
