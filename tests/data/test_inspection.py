import numpy as np
import pytest
from PIL import Image

from kneefair_jax.data import inspection
from kneefair_jax.data.inspection import aggregate_notes, contour_bands, interpolated_rims
from tests.hostile import films, geometry
from tests.hostile.test_geometry import audited, checked, no_timing

__all__ = ["no_timing"]

UNKNOWN = np.full(2, np.nan, np.float32)


def pair(*values):
    return np.array(values, np.float32)


@pytest.mark.parametrize(
    ("film", "mask", "table", "count"),
    [
        (pair(0.3, 0.3), pair(0.3, 0.3), pair(0.3, 0.3), 0),
        (UNKNOWN, UNKNOWN, UNKNOWN, 0),
        (pair(0.3, 0.3), UNKNOWN, UNKNOWN, 0),
        (pair(0.3, 0.3), pair(0.3029, 0.3), UNKNOWN, 0),  # rounded
        (pair(0.3, 0.3), pair(0.3, 0.304), UNKNOWN, 1),
        (pair(0.3, 0.3), pair(0.36, 0.36), pair(0.25, 0.25), 1),
        (pair(0.3, 0.3), pair(0.3, 0.3), pair(0.25, 0.25), 0),  # corrected for magnification
        (pair(0.3, 0.3), pair(3, 3), UNKNOWN, 1),
        (pair(0.3, 0.3), pair(0.3, 0.5), UNKNOWN, 1),
        (pair(0.3, 0.3), pair(0.3, 0.3), pair(0.15, 0.15), 1),
        (UNKNOWN, pair(3, 3), pair(0.3, 0.3), 1),
    ],
)
def test_spacings_that_disagree(film, mask, table, count):
    assert len(inspection.spacing_notes(film, mask, table)) == count


def test_a_note_holds_both_spacings():
    (note,) = inspection.spacing_notes(pair(0.3, 0.25), pair(3, 2.5), UNKNOWN)
    assert "3 x 2.5 mm" in note and "0.3 x 0.25 mm" in note and "film" in note and "mask" in note


@pytest.mark.parametrize(
    ("mask", "percent"),
    [(0.21, "5 %"), (0.2034, "1.7 %"), (0.2194, "9.7 %"), (0.2234, "12 %"), (0.5, "150 %")],
)
def test_a_difference_of_spacings_is_in_percent(mask, percent):
    (note,) = inspection.spacing_notes(pair(0.2, 0.2), pair(mask, 0.2), UNKNOWN)
    assert f" {percent}" in note


@pytest.mark.parametrize("mask", [UNKNOWN, pair(0.2, 0.2)])
def test_a_table_may_correct_magnification(mask):
    assert inspection.spacing_notes(pair(0.2, 0.2), mask, pair(0.18, 0.18)) == []
    (note,) = inspection.spacing_notes(pair(0.2, 0.2), mask, pair(0.12, 0.12))
    assert "67 %" in note and "table" in note and "correct the wrong one" in note


def test_headers_of_different_kinds_may_differ_by_magnification():
    film, mask = pair(0.2, 0.2), pair(0.18, 0.18)
    for kinds in [("detector", "calibrated"), ("detector", "header")]:
        (note,) = inspection.spacing_notes(film, mask, UNKNOWN, kinds)
        assert "magnification" in note and kinds[1] in note and "wrong" not in note
    for other, kinds in [
        (mask, ("detector", "detector")),
        (mask, ("detector", "unknown")),
        (pair(0.02, 0.02), ("detector", "calibrated")),
    ]:
        (note,) = inspection.spacing_notes(film, other, UNKNOWN, kinds)
        assert "magnification" not in note and "correct the wrong one" in note


def test_equal_masks_have_one_digest_and_empty_masks_have_none():
    label = np.zeros((6, 8), np.uint8)
    assert inspection.inspect_mask(label).mask_sha256 == ""
    label[2:4] = 1
    digests = [
        inspection.inspect_mask(one).mask_sha256
        for one in (label, label[::-1].astype(np.int64), label.reshape(8, 6), np.roll(label, 1, 0))
    ]
    assert digests[0] == digests[1] and len(set(digests)) == 3


def test_it_is_written_and_read_back():
    one = inspection.inspect_mask(np.eye(4, dtype=np.uint8), "table", ["film: odd"])
    assert inspection.decode(inspection.encode(one)) == one
    assert one == ("table", ("film: odd",), False, one.mask_sha256, 0)
    assert inspection.encode(None) == "" and inspection.decode("") is None


def test_interpolation_is_looked_for_in_the_values_of_the_file_not_in_the_labels():
    values = np.zeros((32, 32), np.uint8)
    values[4:12], values[12:14], values[14:28], values[28:] = 1, 2, 3, 2  # a rim of 2 between 1 and 3
    labels = np.array([0, 2, 1, 3], np.uint8)[values]
    assert not inspection.inspect_mask(labels).interpolated
    assert inspection.inspect_mask(labels, values=values).interpolated
    assert (
        inspection.inspect_mask(labels, values=values).mask_sha256
        == inspection.inspect_mask(labels).mask_sha256
    )


def test_void_pixels_are_counted_and_are_no_step_between_labels():
    values = np.zeros((8, 8), np.uint8)
    values[:4], values[4:6] = 1, 255
    label = np.where(values == 255, 0, values)
    one = inspection.inspect_mask(label, values=values, void=255)
    assert one.void_pixels == 16 and not one.interpolated
    assert inspection.decode(inspection.encode(one)) == one


def test_notes_that_differ_in_numbers_are_of_one_kind():
    notes = [(), ("a pixel of 0.3 x 2e-05",), ("a pixel of 0.25 x 1", "other")]
    first, second = aggregate_notes(["a", "b", "c"], notes)
    assert first == "a pixel of 0.3 x 2e-05 (in 2 of 3 cases: b, c)"
    assert second == "other (in 1 of 3 cases: c)"
    assert aggregate_notes([], []) == []
    (many,) = aggregate_notes(list("abcdefg"), [("x",)] * 7)
    assert many == "x (in 7 of 7 cases: a, b, c, d, e, ...)"


@pytest.mark.usefixtures("terminal_log")
def test_an_audit_notes_masks_without_a_unit(tmp_path, capsys):
    rows = []
    for n in range(12):
        mask, name = films.knee(n)[1], f"c{n:02d}.nii.gz"
        films.nifti(tmp_path / "stated" / name, mask)
        films.nifti(tmp_path / "unit" / name, mask, mm=0.3 + n / 100, unit="unknown" if n % 2 else "mm")
        rows.append(f"c{n:02d},p{n},{'fm'[n % 2]}")
    films.table(tmp_path / "metadata.csv", "case_id,patient_id,sex", rows)
    for truth, pred, mask in (("unit", "stated", "reference mask"), ("stated", "unit", "prediction")):
        audited(tmp_path, pred, tmp_path / f"out_{truth}", truth=truth)
        (note,) = [line for line in capsys.readouterr().out.splitlines() if "states no unit" in line]
        assert mask in note.lower() and "6 of 12 cases" in note and "c01" in note


@pytest.mark.usefixtures("terminal_log")
@pytest.mark.parametrize("kind", ["masks", "images"])
def test_check_notes_headers_and_kinds_of_spacing(tmp_path, no_timing, capsys, kind):
    root = geometry.cohort(tmp_path / "cohort")
    for n in (3, 7):
        image, label = films.knee(n)
        films.nifti(
            root / kind / f"c{n:02d}.nii.gz", label if kind == "masks" else image, mm=0.3, unit="unknown"
        )
    result = checked(root, tmp_path / "run")
    (note,) = result["headers"]
    assert note.startswith("mask" if kind == "masks" else "film") and "unit" in note
    assert "2 of 24 cases" in note and "c03" in note and capsys.readouterr().out.count(note) == 1
    assert set(result["header_notes"]) == {"c03", "c07"}
    kinds = {"header": 24} if kind == "masks" else {"header": 22, "unknown": 2}
    assert result["spacing_kinds"] == kinds


def bones(size=128):
    """A femur (1) above a tibia (2), a fibula (3) beside it and a patella (4) in the femur."""
    y, x = np.mgrid[:size, :size] / size
    label = np.zeros((size, size), np.uint8)
    label[np.hypot((x - 0.5) / 0.3, (y - 0.2) / 0.28) < 1] = 1
    label[np.hypot((x - 0.5) / 0.28, (y - 0.8) / 0.28) < 1] = 2
    label[(np.abs(x - 0.83) < 0.05) & (y > 0.65)] = 3
    label[np.hypot((x - 0.5) / 0.12, (y - 0.25) / 0.1) < 1] = 4
    return label


def resized(label, size, how):
    values = Image.fromarray(label.astype(np.float32)).resize((size, size), how)
    return np.rint(np.asarray(values)).astype(np.uint8)


@pytest.mark.parametrize("size", [40, 64, 96, 150, 256, 512])
def test_linear_and_nearest_interpolation_of_masks_are_distinguished(size):
    exact = resized(bones(), size, Image.Resampling.NEAREST)
    linear = resized(bones(), size, Image.Resampling.BILINEAR)
    assert interpolated_rims(exact).share < 0.1 and not interpolated_rims(exact).interpolated
    assert interpolated_rims(linear).share > 0.25 and interpolated_rims(linear).interpolated
    as_read = interpolated_rims(linear.astype(np.int64))
    assert as_read == interpolated_rims(linear) == interpolated_rims(linear.T)


def test_rims_by_hand():
    label = np.zeros((3, 12), np.uint8)
    label[:, 4:6], label[:, 6:] = 1, 3  # 1 is nowhere but in a rim: a thin structure of its own
    assert interpolated_rims(label) == (0, 0)
    label[:, :4] = 1
    label[:, 4:6] = 2  # likewise
    assert interpolated_rims(label) == (0, 0)
    label = np.array(
        [[0, 0, 1, 2, 2, 2, 0, 1, 1, 1, 1, 1]] * 3, np.uint8
    )  # one rim and one direct step a row
    assert interpolated_rims(label) == (3, 0.5)
    assert not interpolated_rims(label).interpolated  # they are few


def test_cartilage_is_a_structure():
    y, x = np.mgrid[:128, :128]
    radius = np.hypot(x - 64, y - 64)
    label = np.where(radius < 40, 2, np.where(radius < 43, 1, 0))
    assert not interpolated_rims(label).interpolated


def test_one_structure_and_none():
    for label in (np.zeros((8, 8), np.uint8), np.ones((8, 8), np.uint8), bones() == 1):
        assert interpolated_rims(np.asarray(label, np.uint8)) == (0, 0)


def test_a_band_along_contours():
    label = bones().astype(np.int64)
    edge = np.zeros(label.shape, bool)
    edge[1:] |= label[1:] != label[:-1]
    edge[:, 1:] |= label[:, 1:] != label[:, :-1]
    band = np.where(edge, 255, label)
    assert contour_bands(band, (1, 2, 3, 4), (0, 255)) == [255]
    assert contour_bands(band, (1, 2, 3, 4), (0,)) == []
    assert contour_bands(label, (1, 2, 3, 4), (0, 255)) == []
    everything = np.where(label == 0, 255, label)  # background by another number
    assert contour_bands(everything, (1, 2, 3, 4), (0, 255)) == []
    marker = label.copy()
    marker[:6, :6] = 255
    assert contour_bands(marker, (1, 2, 3, 4), (0, 255)) == []


def test_blocks_of_rows_count_as_the_whole(monkeypatch):
    label = np.random.default_rng(0).integers(0, 5, (37, 23)).repeat(3, 1)
    whole = inspection.interpolated_rims(label)
    monkeypatch.setattr(inspection, "_BLOCK", 5 * label.shape[1])
    assert inspection.interpolated_rims(label) == whole and whole.rims > 0
