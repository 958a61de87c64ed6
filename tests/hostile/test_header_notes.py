"""What is odd about headers is told by `check` and by an audit, each kind of note once, with a case that has it."""

import pytest

from kneefair_jax.data.header_notes import aggregate
from tests.hostile import films, geometry
from tests.hostile.test_geometry import audited, checked, no_timing

__all__ = ["no_timing"]


def test_notes_that_differ_in_numbers_are_of_one_kind():
    notes = [(), ("a pixel of 0.3 x 2e-05",), ("a pixel of 0.25 x 1", "other")]
    first, second = aggregate(["a", "b", "c"], notes)
    assert first == "a pixel of 0.3 x 2e-05 (in 2 of 3 cases: b, c)"
    assert second == "other (in 1 of 3 cases: c)"
    assert aggregate([], []) == []
    (many,) = aggregate(list("abcdefg"), [("x",)] * 7)
    assert many == "x (in 7 of 7 cases: a, b, c, d, e, ...)"


def test_an_audit_tells_of_masks_without_a_unit(tmp_path, capsys):
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


@pytest.mark.parametrize("kind", ["masks", "images"])
def test_check_tells_of_headers_and_of_kinds_of_spacing(tmp_path, no_timing, capsys, kind):
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
