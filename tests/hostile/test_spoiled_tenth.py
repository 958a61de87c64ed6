"""A tenth of a cohort's masks is faulty: the audit names each with its case and what is wrong ("It must show" 5)."""

import pandas as pd
import pytest

from kneefair_jax.audit.__main__ import main
from tests.hostile import masks


def audited(root, capsys):
    """Faults by case, and the last lines of the terminal."""
    paths = {"--truth": "truth", "--pred": "pred", "--metadata": "metadata.csv", "--out": "out"}
    argv = [word for flag, name in paths.items() for word in (flag, str(root / name))]
    assert main([*argv, "--attributes", "sex", "--labels", "knee", "--draws", "40"]) == 0
    lines = capsys.readouterr().out.splitlines()
    path = root / "out/mask_faults.csv"
    if not path.exists():
        return None, "\n".join(lines)
    assert str(path) in lines[-1]
    faults = pd.read_csv(path, keep_default_na=False)
    end = lines.index("", max(n for n, line in enumerate(lines) if line.startswith("page: ")))
    return faults, "\n".join(lines[end:])


SPACING = "pixel spacing far from that of most cases"
HEADERS = "headers of reference mask and prediction state different spacings"
OUTLIER = "overlaps far less than in most cases"
# The mask, the fault, and the start of its detail.
EXPECTED = {
    ("flip-ud", "truth"): ("reference", "orientation", "fits after flip-ud"),
    ("flip-ud", "pred"): ("pred", "orientation", "fits after flip-ud"),
    ("rotate-90", "truth"): ("reference", "orientation", "fits after rotate-270"),
    ("rotate-90", "pred"): ("pred", "orientation", "fits after rotate-270"),
    ("units", "truth"): ("reference", SPACING, "0.2 x 0.2 mm"),
    ("units", "pred"): ("pred", HEADERS, "2 x 2 mm and 0.2"),
    ("interpolated", "truth"): ("reference", "interpolated labels", ""),
    ("interpolated", "pred"): ("pred", "interpolated labels", ""),
    ("copied", "truth"): ("reference", "identical mask", "the same mask as c"),
    ("copied", "pred"): ("pred", "identical mask", "the same mask as c"),
    ("exchanged", "truth"): ("pred", "fits another case", "c"),
    ("exchanged", "pred"): ("pred", "fits another case", "c"),
    ("foreign", "truth"): ("pred", OUTLIER, "Dice 0."),
    ("foreign", "pred"): ("pred", OUTLIER, "Dice 0."),
}


@pytest.mark.parametrize(("kind", "side"), EXPECTED, ids=map("-".join, EXPECTED))
def test_each_is_named_with_what_is_wrong(tmp_path, capsys, kind, side):
    spoiled = masks.spoiled_tenth(tmp_path, kind, side)
    faults, end = audited(tmp_path, capsys)
    mask, fault, start = EXPECTED[kind, side]
    named = faults[
        (faults["mask"] == mask) & (faults["fault"] == fault) & faults["detail"].str.startswith(start)
    ]
    originals = [masks.case_id(n + 1) for n in masks.SPOILED] if kind == "copied" else []
    assert sorted(named["case_id"]) == sorted(spoiled + originals)
    assert set(faults["case_id"]) == {*spoiled, *originals}  # no other case has any fault
    assert all(case in end for case in spoiled)


def test_masks_without_faults(tmp_path, capsys):
    masks.spoiled_tenth(tmp_path, "", "")
    faults, end = audited(tmp_path, capsys)
    assert faults is None and "warning: " not in end
