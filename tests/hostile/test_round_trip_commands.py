"""One film in every format, orientation and polarity that its header can state: one mask, one area, one audit.

Headers are made by NumPy, Pillow's `exif_transpose` and nibabel's `as_reoriented`, not by the readers under test.
"""

import csv
import itertools
import json

import nibabel
import numpy as np
import pytest
import tifffile
from PIL import Image, ImageOps

from kneefair_jax.audit.__main__ import main as audit
from kneefair_jax.data import readers
from kneefair_jax.predict.__main__ import main as predict
from tests.hostile.films import MM, bright, dicom, knee

LAYOUTS = list(itertools.product((False, True), repeat=3))  # transpose, then flip rows, then flip columns


def laid_out(array, layout):
    transpose, rows, columns = layout
    array = array.T if transpose else array
    array = array[::-1] if rows else array
    return np.ascontiguousarray(array[:, ::-1] if columns else array)


def exif_number(layout):
    """The EXIF orientation that Pillow turns back."""
    array = np.arange(6, dtype=np.uint8).reshape(2, 3)
    for number in range(1, 9):
        image = Image.fromarray(laid_out(array, layout))
        image.getexif()[274] = number
        if np.array_equal(np.asarray(ImageOps.exif_transpose(image)), array):
            return number
    raise AssertionError(layout)


def png(path, film, layout):
    exif = Image.Exif()
    exif[274] = exif_number(layout)
    Image.fromarray(laid_out(film, layout)).save(path, exif=exif)


def tiff(path, film, layout, photometric):
    stored = laid_out(film, layout)
    stored = 65535 - stored if photometric == "miniswhite" else stored
    tags = [(274, "H", 1, exif_number(layout), True)]
    tifffile.imwrite(path, stored, photometric=photometric, extratags=tags)


def nifti(path, film, layout):
    """A film that lies L-P, and nibabel's reorientation of it."""
    image = nibabel.Nifti1Image(film.T[..., None], np.diag([-MM, -MM, 1.0, 1.0]))
    image.header.set_xyzt_units("mm")
    transpose, rows, columns = layout
    # [input axis] -> (output axis, direction); rows of the film are the second axis.
    x, y = (1, 0) if transpose else (0, 1)
    flips = {0: -1 if columns else 1, 1: -1 if rows else 1}
    nibabel.save(image.as_reoriented(np.array([[x, flips[x]], [y, flips[y]], [2, 1]], float)), path)


def film_dicom(path, film, layout, polarity):
    row, column = np.array([1.0, 0.0, 0.0]), np.array([0.0, 0.0, -1.0])  # to the left, to the feet
    transpose, rows, columns = layout
    row, column = (column, row) if transpose else (row, column)
    tags = {
        "ImageOrientationPatient": [*(-row if columns else row), *(-column if rows else column)],
        "ImagePositionPatient": [0.0, 0.0, 0.0],
        "ImagerPixelSpacing": [MM, MM],
    }
    stored = laid_out(film, layout)
    if polarity == "negative slope":
        tags |= {"RescaleSlope": -1, "RescaleIntercept": 4095}
    inverted = polarity in ("monochrome1", "negative slope")
    photometric = "MONOCHROME1" if polarity == "monochrome1" else "MONOCHROME2"
    dicom(path, (4095 - stored) if inverted else stored, photometric, **tags)


def write(folder, number, layouts):
    """One film in 7 files for each layout; returns their names."""
    folder.mkdir(parents=True, exist_ok=True)
    film, names = bright(number), []
    for k, layout in enumerate(layouts):
        name = f"f{number:02d}_{k}"
        png(folder / f"{name}_png.png", film, layout)
        nifti(folder / f"{name}_nii.nii.gz", film, layout)
        names += [f"{name}_png", f"{name}_nii"]
        for photometric in ("minisblack", "miniswhite"):
            tiff(folder / f"{name}_{photometric}.tif", film, layout, photometric)
            names.append(f"{name}_{photometric}")
        for polarity in ("monochrome2", "monochrome1", "negative slope"):
            film_dicom(folder / f"{name}_{polarity.replace(' ', '_')}.dcm", film, layout, polarity)
            names.append(f"{name}_{polarity.replace(' ', '_')}")
    return names


@pytest.mark.parametrize(
    ("films", "layouts", "step"),
    [(1, LAYOUTS[::6], 11), pytest.param(12, LAYOUTS, 1, marks=pytest.mark.slow)],
)
def test_masks_areas_and_audits_are_the_same(tmp_path, films, layouts, step):
    names = {number: write(tmp_path / "films", number, layouts) for number in range(films)}
    given = ["--checkpoint", "phantom", "--images", str(tmp_path / "films"), "--no-overlays"]
    assert predict([*given, "--out", str(tmp_path / "out"), "--format", "nifti"]) == 0
    masks = {
        path.name.removesuffix(".nii.gz"): readers.read_mask(path)
        for path in (tmp_path / "out/masks").iterdir()
    }
    with (tmp_path / "out/areas.csv").open(newline="") as file:
        areas = list(csv.DictReader(file))
    for number, of_film in names.items():
        first, *others = of_film
        assert (masks[first] > 0).mean() > 0.05
        for other in others:
            np.testing.assert_array_equal(masks[other], masks[first], err_msg=other)
        rows = [row for row in areas if row["file"].startswith(f"f{number:02d}_")]
        for label in "1234":
            of_label = [row for row in rows if row["label"] == label]
            assert len(of_label) == len(of_film)
            assert len({row["area_pixels"] for row in of_label}) == 1
            known = {row["area_mm2"] for row in of_label if row["file"].endswith((".dcm", ".nii.gz"))}
            assert len(known) == 1 and float(known.pop()) == pytest.approx(
                MM**2 * int(of_label[0]["area_pixels"]), abs=0.01
            )
    assert audits(tmp_path, names, step) == 1


def audits(folder, names, step):
    """How many different results the audits of every `step`-th variant have; truth is the phantoms' own mask."""
    results = set()
    for variant in range(0, len(names[0]), step):
        root = folder / f"variant_{variant}"
        (root / "pred").mkdir(parents=True)
        (root / "truth").mkdir()
        lines = ["case_id,patient_id,sex,spacing_mm"]
        for number, of_film in names.items():
            mask = folder / "out/masks" / f"{of_film[variant]}.nii.gz"
            (root / "pred" / f"c{number}.nii.gz").write_bytes(mask.read_bytes())
            Image.fromarray(knee(number)[1]).save(root / "truth" / f"c{number}.png")
            lines.append(f"c{number},p{number},{'fm'[number % 2]},{MM}")
        (root / "metadata.csv").write_text("\n".join(lines) + "\n")
        tables = [
            "--truth",
            str(root / "truth"),
            "--metadata",
            str(root / "metadata.csv"),
            "--attributes",
            "sex",
        ]
        labels = ["--labels", "femur=1", "tibia=2", "fibula=3", "patella=4", "--draws", "40"]
        assert audit([*tables, *labels, "--pred", str(root / "pred"), "--out", str(root / "page")]) == 0
        report = json.loads((root / "page/report.json").read_text())
        results.add(json.dumps([report["scores"], report["cohort"]["structures"]], sort_keys=True))
    return len(results)
