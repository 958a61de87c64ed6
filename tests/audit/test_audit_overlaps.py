"""Audits of masks with overlap classes, and of whole bones in masks that overlap."""

import numpy as np
import pandas as pd
import pytest

from kneefair_jax import anatomy, audit
from kneefair_jax.data import label_map
from kneefair_jax.errors import InputError
from tests.audit import folder

OVERLAPS = anatomy.SCHEMES["knee_overlaps"]
BONES = anatomy.whole_bones(OVERLAPS)  # femur, tibia, fibula, patella
VALUES = {"femur": 1, "tibia": 2, "fibula": 3, "patella": 4, "femur and patella": 5, "tibia and fibula": 6}


def bones(i, lost=0):
    """Whole bones, bool[H, W] each: femur over tibia, the patella partly on the femur, the fibula on the tibia."""
    rows, columns = np.indices((24, 24))
    return {
        "whole femur": (rows < 11 - lost) & (columns > 2 + i % 3),
        "whole tibia": (rows > 12) & (columns > 4) & (columns < 20),
        "whole fibula": (rows > 14 + lost) & (abs(columns - 20) < 3),
        "whole patella": (abs(rows - 6) < 6 - lost) & (abs(columns - 4 - i % 4) < 4),
    }


def label(masks):
    joined = np.zeros((24, 24), np.uint8)
    for name in BONES:
        joined[masks[name]] = VALUES[name.removeprefix("whole ")]
    joined[masks["whole femur"] & masks["whole patella"]] = 5
    joined[masks["whole tibia"] & masks["whole fibula"]] = 6
    return joined


def lost(i):
    return 1 + i % 2


def run(root, pred="pred", labels=VALUES):
    return audit.masks(
        root / "truth",
        root / pred,
        root / "metadata.csv",
        ["sex"],
        audit.MaskOptions(labels=labels),
        audit.Settings(draws=40, min_group_patients=2),
    )


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    root = folder.write(tmp_path_factory.mktemp("overlaps"))
    for i in range(folder.CASES):
        folder.save(label(bones(i)), root / "truth" / f"c{i}.png")
        folder.save(label(bones(i, lost(i))), root / "pred" / f"c{i}.png")
        for name, mask in bones(i, lost(i)).items():
            folder.save(mask.astype(np.uint8), root / "files" / f"c{i}_{name.replace(' ', '_')}.png")
    return root


@pytest.fixture(scope="module")
def by_class(root):
    return run(root)


def test_whole_bones_are_scored(by_class):
    table = by_class.cases.set_index(["case_id", "structure"])
    assert list(by_class.cases["structure"].unique()) == list(BONES)
    for i in range(folder.CASES):
        for name, true in bones(i).items():
            predicted = bones(i, lost(i))[name]
            row = table.loc[f"c{i}", name]
            expected = 2 * (true & predicted).sum() / (true.sum() + predicted.sum())
            assert row["dice"] == pytest.approx(expected)
            assert row["true_area_mm2"] == pytest.approx(0.25 * true.sum())
    assert by_class.report["cohort"]["structures"] == list(BONES)
    assert by_class.report["run"]["classes"] == list(OVERLAPS)


def test_one_file_a_whole_bone_scores_as_one_label_map(root, by_class):
    pd.testing.assert_frame_equal(run(root, "files").cases, by_class.cases)


def test_whole_bones_that_share_values_are_their_classes(root):
    words = ["whole femur=1,5", "whole tibia=2,6", "whole fibula=3,6", "whole patella=4,5"]
    named = label_map.parse([*words, "ignore=9"])
    classes = {name: (value,) for name, value in VALUES.items()}
    assert named == {**classes, "background": (0,), "ignore": (9,)}
    # Without the bone that it overlaps, a whole bone is one structure.
    assert label_map.parse(words[:1]) == {"whole femur": (1, 5), "background": (0,)}
    for wrong in (
        ["whole femur=1,5", "whole tibia=2,5"],
        [*words, "femur=7"],
        [*words, "other=5"],
        ["femur=1,5", "patella=4,5"],
        ["whole femur=5", "whole patella=4,5"],
    ):
        with pytest.raises(InputError, match="--labels"):
            label_map.parse(wrong)
