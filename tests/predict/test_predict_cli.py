import csv
import os
import re

import highdicom
import nibabel
import numpy as np
import pydicom
import pytest
from PIL import Image
from pydicom.uid import generate_uid

from kneefair_jax import anatomy
from kneefair_jax.data import readers
from kneefair_jax.data.readers import limits
from kneefair_jax.predict import __main__ as cli
from kneefair_jax.predict import films, writers
from tests.data.test_readers import write_dicom, write_nifti
from tests.predict.networks import write

RNG = np.random.default_rng(0)
PICTURE = RNG.integers(0, 256, (24, 30), dtype=np.uint8)
STUDY = {
    name: ""
    for name in ("PatientID", "PatientName", "PatientBirthDate", "PatientSex", "StudyID", "StudyDate")
} | {"StudyTime": "", "AccessionNumber": "", "ReferringPhysicianName": "", "Modality": "DX"}


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    structures = ("femur", "tibia", "fibula", "patella")
    return str(write(tmp_path_factory.mktemp("weights") / "w.safetensors", structures))


def dicom(path, pixels, photometric="MONOCHROME2", **tags):
    uids = {"StudyInstanceUID": generate_uid(), "SeriesInstanceUID": generate_uid()}
    return write_dicom(path, pixels, photometric, **STUDY, **uids, **tags)


def run(weights, out, *more):
    return cli.main(["--checkpoint", weights, "--out", str(out), *map(str, more)])


def test_every_kind_of_image_gets_a_mask_of_its_size(tmp_path, weights, capsys):
    folder = tmp_path / "films"
    (folder / "a/b").mkdir(parents=True)
    for name in ("a/1.png", "a/b/1.jpg", "2.tif"):
        Image.fromarray(PICTURE).save(folder / name)
    Image.fromarray(np.repeat(PICTURE[..., None], 3, 2)).save(folder / "rgb.png")
    np.save(folder / "3.npy", PICTURE.astype(float))
    write_dicom(folder / "1.2.840.7", PICTURE, "MONOCHROME1", ImagerPixelSpacing=[0.5, 0.2])
    write_nifti(folder / "4.nii.gz", PICTURE.T)
    (folder / "notes.txt").write_text("passed over")
    assert run(weights, tmp_path / "out", "--images", folder) == 0
    assert "7 segmented" in capsys.readouterr().out
    for name in ("a/1", "a/b/1", "2", "rgb", "3", "1.2.840.7", "4"):
        assert readers.read_mask(tmp_path / f"out/masks/{name}.png").shape == PICTURE.shape
        assert (tmp_path / f"out/overlays/{name}.png").exists()
    rows = list(csv.DictReader((tmp_path / "out/areas.csv").read_text().splitlines()))
    assert len(rows) == 7 * 4
    for row in rows:
        known = {"1.2.840.7": 0.1, "4.nii.gz": 0.06}.get(os.path.basename(row["file"]))
        expected = "" if known is None else f"{known * int(row['area_pixels']):.2f}"
        assert row["area_mm2"] == expected
    # Read again, its results are not images.
    assert sum(1 for _ in films.find([str(tmp_path)], tmp_path / "out")) == 7


def test_masks_in_a_folder_of_films_are_left_out_with_one_line(tmp_path, weights, capsys):
    folder = tmp_path / "films"
    label = np.repeat(np.repeat(np.arange(4, dtype=np.uint8).reshape(2, 2), 20, 0), 24, 1)
    (folder / "masks").mkdir(parents=True)
    Image.fromarray(PICTURE).save(folder / "1.png")
    Image.fromarray(label).save(folder / "masks/1.png")
    Image.fromarray(np.repeat(label[..., None] * 50, 3, 2)).save(folder / "colored.png")
    Image.fromarray(np.zeros_like(label)).save(folder / "1_mask.png")
    write_nifti(folder / "1.nii.gz", label.T)  # with the name of its film
    Image.fromarray(np.zeros_like(label)).save(folder / "blank.png")
    assert run(weights, tmp_path / "out", "--images", folder) == 1
    out, err = capsys.readouterr()
    assert "1 segmented" in out and "1 failed" in out and "blank.png" in err
    assert "left out: 4 files" in out and ", 4 left out as masks" in out
    assert all(out.count(f"{name}: a label image") == 1 for name in ("1.png", "colored.png", "1.nii.gz"))
    assert [path.name for path in (tmp_path / "out/masks").rglob("*.*")] == ["1.png"]
    # A file that is named is a film, whatever its values.
    assert run(weights, tmp_path / "named", "--images", folder / "masks/1.png") == 0


@pytest.mark.parametrize(("count", "rest"), [(5, None), (7, "and 2 more")])
def test_the_first_masks_that_are_left_out_are_named(tmp_path, weights, capsys, count, rest):
    (tmp_path / "masks").mkdir()
    for number in range(count):
        Image.fromarray(np.uint8(PICTURE > 90)).save(tmp_path / f"masks/{number}.png")
    assert run(weights, tmp_path / "out", "--images", tmp_path) == 2
    out, err = capsys.readouterr()
    (line,) = (line for line in out.splitlines() if "left out: " in line)
    assert [f"{number}.png" in line for number in range(count)] == [True] * 5 + [False] * (count - 5)
    assert (" more" in line) == (rest is not None) and (rest or "") in line
    assert f"{count} left out as masks" in out and "name a file itself" in err


def test_a_film_above_the_memory_fails_alone(tmp_path, weights, monkeypatch, capsys):
    read = readers.read_radiograph

    def read_radiograph(path):
        if path.suffix == ".npy":
            raise MemoryError
        return read(path)

    folder = tmp_path / "films"
    folder.mkdir()
    np.save(folder / "a.npy", PICTURE)  # of one name with the next file: both are decoded before the work
    for name in ("a.png", "b.png"):
        Image.fromarray(PICTURE).save(folder / name)
    monkeypatch.setattr(readers, "read_radiograph", read_radiograph)
    assert run(weights, tmp_path / "out", "--images", folder) == 1
    out, err = capsys.readouterr()
    assert "a.npy: too large" in err and "1 segmented" in out


def test_earlier_results_of_a_file_that_is_left_out_as_a_mask_are_kept(tmp_path, weights, capsys):
    folder, out = tmp_path / "films", tmp_path / "out"
    folder.mkdir()
    Image.fromarray(PICTURE).save(folder / "a.png")
    Image.fromarray(np.repeat(np.arange(16, dtype=np.uint8) * 17, 24)[None].repeat(30, 0)).save(
        folder / "b.png"
    )
    assert run(weights, out, "--images", folder / "b.png") == 0
    before = (out / "masks/b.png").read_bytes()
    capsys.readouterr()
    assert run(weights, out, "--images", folder, "--overwrite", "--flip") == 0
    assert "1 left out as masks" in capsys.readouterr().out
    assert (out / "masks/b.png").read_bytes() == before and "b.png" in (out / "areas.csv").read_text()


def test_nifti_masks_lie_where_their_films_do(tmp_path, weights):
    image = nibabel.Nifti1Image(PICTURE.T[..., None], np.diag([-0.2, 0.3, 1, 1]))
    nibabel.save(image, tmp_path / "a.nii")
    dicom(tmp_path / "b.dcm", PICTURE, PixelSpacing=[0.5, 0.2])
    out = tmp_path / "out"
    assert run(weights, out, "--images", tmp_path / "a.nii", tmp_path / "*.dcm", "--format", "nifti") == 0
    mask = nibabel.load(out / "masks/a.nii.gz")
    assert mask.shape == (30, 24, 1) and mask.get_data_dtype() == np.uint8
    np.testing.assert_allclose(mask.affine, image.affine, atol=1e-6)
    labels, spacing, *_ = readers.read_label_file(out / "masks/b.nii.gz")
    assert labels.shape == PICTURE.shape
    np.testing.assert_allclose(spacing, [0.5, 0.2], rtol=1e-6)


def test_a_film_of_both_knees_becomes_a_dicom_seg(tmp_path, weights):
    path = dicom(tmp_path / "film.dcm", np.hstack([PICTURE, PICTURE]), SeriesDescription="Bilateral PA")
    given = ("--images", path, "--no-overlays")
    assert run(weights, tmp_path / "seg", *given, "--format", "dicomseg") == 0
    assert run(weights, tmp_path / "png", *given) == 0
    mask = readers.read_mask(tmp_path / "png/masks/film.png")
    made = highdicom.seg.segread(tmp_path / "seg/masks/film.dcm")
    uid = pydicom.dcmread(path).SOPInstanceUID
    read = made.get_pixels_by_source_instance([uid], combine_segments=True)[0]
    np.testing.assert_array_equal(read, np.searchsorted(np.unique([0, *mask.ravel()]), mask))
    names = [
        row["structure"] for row in csv.DictReader((tmp_path / "png/areas.csv").read_text().splitlines())
    ]
    assert names[:2] == ["right patella", "left patella"] and len(names) == 8
    assert [one.SegmentLabel for one in made.SegmentSequence] == [
        names[i - 1] for i in np.unique(mask[mask > 0])
    ]


def bad_files(folder):
    folder.mkdir()
    (folder / "text.png").write_text("no picture")
    (folder / "notes.txt").write_text("no picture")
    (folder / "empty.png").touch()
    (folder / "nothing.dcm").touch()
    whole = dicom(folder / "truncated.dcm", PICTURE).read_bytes()
    (folder / "truncated.dcm").write_bytes(whole[:-300])
    write_dicom(folder / "codec.dcm", PICTURE)
    other = pydicom.dcmread(folder / "codec.dcm")
    other.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.4.100"  # MPEG2
    other.PixelData = pydicom.encaps.encapsulate([b"1234"])
    other["PixelData"].is_undefined_length = True
    other.save_as(folder / "codec.dcm", implicit_vr=False, little_endian=True)
    Image.fromarray(PICTURE[:1, :1]).save(folder / "one.png")
    Image.new("1", (20_000, 20_000)).save(folder / "huge.png")
    np.lib.format.open_memmap(folder / "vast.npy", "w+", np.uint8, (20_000, 20_000)).flush()
    write_dicom(folder / "immense.dcm", PICTURE, Rows=20_000, Columns=20_000)
    Image.fromarray(PICTURE * 0).save(folder / "black.png")
    np.save(folder / "nan.npy", np.full((20, 20), np.nan))
    np.save(folder / "volume.npy", np.ones((20, 20, 20)))
    write_nifti(folder / "volumes.nii", np.ones((20, 20, 20), np.uint8))
    pages = [Image.fromarray(PICTURE), Image.fromarray(PICTURE)]
    pages[0].save(folder / "pages.tif", save_all=True, append_images=pages[1:])
    write_dicom(folder / "zero.dcm", PICTURE, PixelSpacing=[0, 0])
    half = np.hstack([PICTURE, PICTURE * 0, PICTURE * 0])
    dicom(folder / "half.dcm", half, ImageLaterality="B")
    (folder / "bare").mkdir()
    Image.fromarray(PICTURE).save(folder / "good.png")
    Image.fromarray(PICTURE).save(folder / "good.jpg")
    (folder / "other").mkdir()
    Image.fromarray(PICTURE).save(folder / "other/good.png")


BAD = {
    "text.png": "unreadable file",
    "notes.txt": "unknown format",
    "empty.png": "unreadable file",
    "nothing.dcm": "unreadable file",
    "truncated.dcm": "unreadable file",
    "codec.dcm": r"pip install 'kneefair_jax\[dicom\]'",
    "one.png": "1 x 1 pixels",
    "huge.png": "more than 50 million",
    "vast.npy": "381 MiB, more than 256 MiB",
    "immense.dcm": "20000 x 20000 pixels, more than 50 million",
    "black.png": "all pixels are alike",
    "nan.npy": "NaN, infinite",
    "volume.npy": "give one image",
    "volumes.nii": "a volume",
    "pages.tif": "several images",
    "zero.dcm": "spacing",
    "half.dcm": "left half: all pixels are alike; .*--knees one",
    "absent.png": "no such file",
    "*.bmp": "no file matches",
    "bare": "no image files in this folder",
    "other/good.png": "rename one of the two, or give the folder that holds both",
    "good.jpg": "rename one of the two$",
}


def test_bad_files_are_reported_in_a_line_each_and_the_rest_is_segmented(tmp_path, weights, capsys):
    bad_files(tmp_path / "in")
    paths = [tmp_path / "in" / name for name in ("good.png", *BAD)]
    assert run(weights, tmp_path / "out", "--images", *paths) == 1
    told = capsys.readouterr().err.splitlines()
    assert len(told) == len(BAD) == 22
    for line, (name, message) in zip(told, BAD.items(), strict=True):
        assert line.startswith(f"failed: {tmp_path / 'in' / name}")
        assert re.search(message, line), line
    assert [path.name for path in (tmp_path / "out").rglob("*.png")] == ["good.png", "good.png"]


def test_a_full_disk_leaves_nothing_half_written(tmp_path, weights, capsys, monkeypatch):
    def full(path, *_):
        path.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setitem(writers.FORMATS, "png", (".png", full))
    Image.fromarray(PICTURE).save(tmp_path / "a.png")
    assert run(weights, tmp_path / "out", "--images", tmp_path / "a.png") == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert f"{tmp_path / 'out/masks/a.png'}: no space left on device" in line
    assert not list((tmp_path / "out/masks").iterdir())


def test_a_file_without_permission(tmp_path, weights, capsys, monkeypatch):
    def refused(*_, **__):
        raise PermissionError(13, "Permission denied")

    Image.fromarray(PICTURE).save(tmp_path / "a.png")
    monkeypatch.setattr(limits, "_without_waiting", refused)  # root may read anything
    assert run(weights, tmp_path / "out", "--images", tmp_path / "a.png") == 2
    assert "permission denied" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (("--checkpoint", "nothing"), "or one of phantom"),
        (("--out", "{weights}"), "give a folder"),
        (("--out", "{films}"), "choose another folder for --out"),
        (("--out", "{films}/.."), "choose another folder for --out"),
        (("--batch-size", "0"), "--batch-size"),
    ],
)
def test_what_cannot_be_begun(tmp_path, weights, capsys, more, message):
    more = [word.format(weights=weights, films=tmp_path) for word in more]
    assert run(weights, tmp_path / "out", "--images", tmp_path, *more) == 2
    assert message in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_no_cell_of_areas_is_a_formula_and_every_path_is_the_file_s(tmp_path, weights, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Image.fromarray(PICTURE).save("=1.png")
    assert run(weights, "out", "--images", "=1.png", "--no-overlays") == 0
    rows = csv.DictReader((tmp_path / "out/areas.csv").read_text().splitlines())
    assert {row["file"] for row in rows} == {"./=1.png"}


def test_overlays_have_a_legend_and_one_colour_a_bone(tmp_path):
    one, table = writers.tints(("femur", "tibia", "fibula", "patella"))
    assert one == {"femur": 1, "tibia": 2, "fibula": 3, "patella": 4} and table[:5].tolist() == [
        0,
        1,
        2,
        3,
        4,
    ]
    both, table = writers.tints(anatomy.SCHEMES["knees"])
    assert both == one and table[:9].tolist() == [0, 4, 4, 1, 1, 2, 2, 3, 3]
    assert writers.tints(("whole femur", "tibia"))[0] == {"whole femur": 1, "tibia": 2}
    names, table = writers.tints(anatomy.SCHEMES["chest"])
    assert list(names.values()) == [1, 2, 3] and table[:4].tolist() == [0, 1, 2, 3]
    mask = np.zeros((60, 20), np.uint8)  # so narrow that the legend takes several lines
    film = films.Film(tmp_path, mask[..., None], np.full(2, np.nan), False, ())
    writers.overlay(tmp_path / "a.png", mask, film, anatomy.SCHEMES["knees"])
    picture = np.asarray(Image.open(tmp_path / "a.png"))
    assert picture.shape[1:] == (171, 3) and not picture[:512].any()
    for label in (1, 2, 3, 4):
        assert (picture[512:] == anatomy.COLORS[label]).all(axis=2).sum() >= 150  # a square of 13 pixels


def test_dicom_seg_of_a_png_is_refused(tmp_path, weights, capsys):
    Image.fromarray(PICTURE).save(tmp_path / "a.png")
    assert run(weights, tmp_path / "out", "--images", tmp_path, "--format", "dicomseg") == 2
    assert "no DICOM file" in capsys.readouterr().err


def test_a_photograph_in_colour_is_noted(tmp_path):
    Image.fromarray(RNG.integers(0, 256, (20, 20, 3), dtype=np.uint8)).save(tmp_path / "a.png")
    assert films.read(tmp_path / "a.png").notes == ("in colour",)
