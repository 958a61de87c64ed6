import json

import numpy as np
import pytest

from kneefair_jax import audit
from kneefair_jax.audit import scoring
from kneefair_jax.errors import InputError
from tests.audit import folder
from tests.report.test_schema import validate

LABELS = {"femur": 1, "tibia": 2, "ignore": 255}
QUICK = audit.Settings(draws=40, min_group_patients=2)


def test_sums_and_the_largest_share():
    shares = np.array([[0.1, np.nan], [0.0, 0.4]])
    ignored = scoring.ignored_pixels(["a", "b"], [3, 4], shares, ("femur", "tibia"))
    assert ignored == (7, 2, 0.4, "tibia", "b")
    note = ignored.note(5, " by m")
    assert "7 pixels in 2 of 5 cases" in note and "40.0 %" in note and "tibia of case b" in note
    none = scoring.ignored_pixels(["a"], [3], np.array([[np.nan, 0.0]]), ("femur", "tibia"))
    assert none == (3, 1, None, None, None)


@pytest.fixture
def root(tmp_path):
    """The first column of each femur is void in even cases."""
    folder.write(tmp_path)
    for i in range(0, folder.CASES, 2):
        mask = folder.truth_of(i)
        mask[4:11, 2 + i % 5] = 255
        folder.save(mask, tmp_path / "truth" / f"c{i}.png")
    return tmp_path


def audited(root, **options):
    where = (root / "truth", root / "pred", root / "metadata.csv", ["sex"])
    return audit.masks(*where, audit.MaskOptions(**{"labels": LABELS} | options), QUICK)


def test_the_report_has_the_pixels_that_are_left_out(root):
    result = audited(root)
    ignored = result.report["run"]["ignored"]
    assert (ignored["pixels"], ignored["cases"]) == (7 * 12, 12)
    shares = []
    for i in range(0, folder.CASES, 2):
        femur = folder.prediction_of(i) == 1
        void = np.zeros_like(femur)
        void[4:11, 2 + i % 5] = True
        shares.append((femur & void).sum() / femur.sum())
    assert ignored["largest_share"] == pytest.approx(max(shares)) and ignored["structure"] == "femur"
    assert any("84 pixels in 12 of 24 cases" in note for note in result.notes)
    result.write(root / "out")
    assert "84 pixels in 12 of 24 cases" in (root / "out/index.html").read_text()
    report = json.loads((root / "out/report.json").read_text())
    assert report["run"]["ignored"] == ignored and validate(report) == []


def test_readers_masks_may_hold_the_ignored_value(root):
    """Reader A draws the truth, void pixels included; B has the predictions, and leaves a row out as void."""
    rows = []
    for i in range(folder.CASES):
        mask = folder.prediction_of(i)
        mask[14] = 255
        folder.save(mask, root / "b" / f"c{i}.png")
        rows += [
            {"case_id": f"c{i}", "reader": reader, "mask": f"{where}/c{i}.png"}
            for reader, where in (("A", "truth"), ("B", "b"))
        ]
    folder.write_table(root / "readers.csv", rows)
    agreement = audited(root, readers=root / "readers.csv").report["readers"]["dice"]
    differences = []
    for i in range(folder.CASES):
        true, predicted = folder.truth_of(i), folder.prediction_of(i)
        counted = np.ones(true.shape, bool)
        counted[14] = False
        if i % 2 == 0:
            counted[4:11, 2 + i % 5] = False
        dice = [
            2
            * (counted & (true == s) & (predicted == s)).sum()
            / ((counted & (true == s)).sum() + (counted & (predicted == s)).sum())
            for s in (1, 2)
        ]
        differences.append(1 - np.mean(dice))
    assert agreement["mean_difference"] == pytest.approx(np.mean(differences))
    for i in range(folder.CASES):
        folder.save(folder.truth_of(i), root / "truth" / f"c{i}.png")
    with pytest.raises(InputError, match=r"row 2: .*b/c0\.png.*255"):
        audited(root, readers=root / "readers.csv", labels={"femur": 1, "tibia": 2})
