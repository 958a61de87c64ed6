import csv

import numpy as np
import pytest

from kneefair_jax.data import folder as folders
from kneefair_jax.data import readers
from kneefair_jax.predict import __main__ as predict
from tests.hostile import films, pixel_meaning
from tests.predict.networks import write


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    return str(
        write(tmp_path_factory.mktemp("weights") / "w.safetensors", ("femur", "tibia", "fibula", "patella"))
    )


def segmented(weights, images, out):
    """Masks by name, and the rows of areas.csv."""
    given = ["--checkpoint", weights, "--images", str(images), "--out", str(out), "--no-overlays"]
    assert predict.main(given) == 0
    masks = {path.stem: readers.read_mask(path) for path in (out / "masks").iterdir()}
    return masks, list(csv.DictReader((out / "areas.csv").read_text().splitlines()))


def eight(path):
    film = readers.read_radiograph(path)
    return readers.to_uint8(film.pixels, valid=film.valid)[..., 0]


def test_every_polarity_is_one_film(tmp_path, weights):
    folder = pixel_meaning.polarity(tmp_path / "films")
    masks, rows = segmented(weights, folder, tmp_path / "out")
    assert len(masks) == 13
    for path in folder.iterdir():
        np.testing.assert_array_equal(eight(path), eight(folder / "a_plain.dcm"), path.name)
        np.testing.assert_array_equal(masks[path.stem], masks["a_plain"], path.name)
    assert len({row["area_mm2"] for row in rows}) == 4  # one a structure
    assert np.corrcoef(eight(folder / "a_plain.dcm").ravel(), films.knee(0)[0].ravel())[0, 1] > 0.99


def test_padding_is_dark_and_outside_the_window(tmp_path, weights):
    folder = pixel_meaning.padding(tmp_path / "films")
    plain = eight(folder / "plain.dcm")
    masks, _ = segmented(weights, folder, tmp_path / "out")
    for name in ("b_65535", "c_minus32768", "d_white", "e_range"):
        image = eight(folder / f"{name}.dcm")
        np.testing.assert_array_equal(image[:, 16:-16], plain, name)
        assert not image[:, :16].any() and not image[:, -16:].any()
        np.testing.assert_array_equal(masks[name], masks["b_65535"])
    film = readers.read_radiograph(folder / "b_65535.dcm")
    assert film.valid.sum() == plain.size and film.pixels.max() == films.bright().max()


def test_files_as_archives_hold_them(tmp_path, weights):
    folder = pixel_meaning.transfer(tmp_path / "films")
    masks, rows = segmented(weights, folder, tmp_path / "out")
    assert len(masks) == 13
    kinds, areas, warnings = {}, {}, {}
    for row in rows:
        name = row["file"].rpartition("/")[2].removesuffix(".dcm")
        kinds[name] = row["spacing_kind"]
        warnings.setdefault(name, row["warning"])  # the first row has it
        areas.setdefault(name, []).append(row["area_mm2"])
    for name, mask in masks.items():
        np.testing.assert_array_equal(mask, masks["a_plain"], name)
    special = {"k_empty_spacing": "unknown", "l_scanned": "scanned", "n_reduced_picture": "detector"}
    assert kinds == dict.fromkeys(masks, "calibrated") | special
    assert set(areas["k_empty_spacing"]) == {""}
    reduced = np.array(areas.pop("n_reduced_picture"), float)
    np.testing.assert_allclose(16 * reduced, np.array(areas["a_plain"], float), atol=0.1)
    for name in ("ImagerPixelSpacing", "PixelSpacing"):
        assert name in warnings["n_reduced_picture"] and name not in warnings["a_plain"]
    assert "BitsStored" in warnings["h_bits_stored_too_small"]
    for name, area in areas.items():
        assert name == "k_empty_spacing" or area == areas["a_plain"], name


@pytest.mark.parametrize("content", [b"", b"\x08\x00", b"\x08\x00\x05\x00text", b"\x02\x00" * 90])
def test_what_only_begins_like_dicom_is_no_film(tmp_path, content):
    (tmp_path / "file").write_bytes(content)
    assert not readers.has_dicom_magic(tmp_path / "file")


def test_a_site_with_negative_slope_is_prepared_as_plain(tmp_path):
    def arrays(slope):
        root = pixel_meaning.cohort(tmp_path / str(slope), slope)
        config = {
            "root": str(root),
            "metadata": "metadata.csv",
            "structures": "knee",
            "attributes": ("site",),
            "bins": {},
            "split_column": "",
            "on_read_error": "stop",
            "orientation": "",
        }
        return list(folders.source(config, size=(64, 64), channels=1).read(range(24)))

    for one, other in zip(arrays(True), arrays(False), strict=True):
        np.testing.assert_array_equal(one.image, other.image)
        np.testing.assert_array_equal(one.label, other.label)
        np.testing.assert_array_equal(one.spacing, other.spacing)
