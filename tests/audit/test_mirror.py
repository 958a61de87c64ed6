"""The mirror test: symmetric and asymmetric predictors, sides that change places, and what is refused."""

import json

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from kneefair_jax import audit
from kneefair_jax.audit.cli import main
from kneefair_jax.errors import InputError
from tests.audit.test_measuring import LABELS, PIXEL, label_map


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """24 knees; the masks of women's mirrored films lie one pixel to the right of those of their films."""
    root = tmp_path_factory.mktemp("mirror")
    for name in ("pred", "mirrored"):
        (root / name).mkdir()
    rows, rng = [], np.random.default_rng(0)
    for number in range(24):
        sex, case = ("female", "male")[number % 2], f"k{number:02d}"
        label = label_map(medial=rng.uniform(4, 6), turn=rng.uniform(-4, 4))
        Image.fromarray(label).save(root / "pred" / f"{case}.png")
        mirrored = np.roll(label[:, ::-1], 1 if sex == "female" else 0, axis=1)
        Image.fromarray(mirrored).save(root / "mirrored" / f"{case}.png")
        rows.append({"case_id": case, "patient_id": case, "sex": sex, "spacing_mm": PIXEL})
    pd.DataFrame(rows).to_csv(root / "metadata.csv", index=False)
    return root


def test_agreement_by_group(folder, tmp_path, capsys):
    words = ["--pred", folder / "pred", "--pred-mirrored", folder / "mirrored", "--attributes", "sex"]
    words += ["--metadata", folder / "metadata.csv", "--draws", "999", "--measure", "--out", tmp_path / "out"]
    words += ["--labels", *(f"{name}={value}" for name, value in LABELS.items())]
    assert main([*map(str, words)]) == 0
    report = json.loads((tmp_path / "out/report.json").read_text())
    groups = report["scores"]["dice"]["groups"]
    assert groups["sex=male"]["mean"] == 1
    assert 0.9 < groups["sex=female"]["mean"] < 0.999
    errors = report["measurements"]["errors"]
    assert errors["bicondylar_width"]["overall"]["absolute"]["estimate"] == pytest.approx(0, abs=1e-9)
    assert any("mirror test" in warning.lower() for warning in report["cohort"]["warnings"])
    assert str(tmp_path / "out/index.html") in capsys.readouterr().out


def test_sides_change_places(tmp_path):
    """Both knees on a film: the right one's mask has the left one's labels on the mirrored film."""
    labels = {"right femur": (1,), "left femur": (2,)}
    rows = []
    for name in ("pred", "mirrored"):
        (tmp_path / name).mkdir()
    for number in range(4):
        label = np.zeros((40, 60), np.uint8)
        label[5 + number : 30, 5:20] = 1
        label[8 + number : 35, 35:55] = 2
        Image.fromarray(label).save(tmp_path / "pred" / f"{number}.png")
        mirrored = np.array([0, 2, 1], np.uint8)[label[:, ::-1]]
        Image.fromarray(mirrored).save(tmp_path / "mirrored" / f"{number}.png")
        rows.append({"case_id": str(number), "patient_id": str(number), "sex": "ab"[number % 2]})
    result = audit.mirror_test(
        tmp_path / "pred",
        tmp_path / "mirrored",
        pd.DataFrame(rows),
        ["sex"],
        audit.MaskOptions(labels=labels),
        audit.Settings(draws=99, min_group_patients=1),
    )
    assert (result.cases["dice"] == 1).all()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--truth", "pred"], "--truth"),
        (["--orientation", "flip-lr"], "--orientation"),
        (["--pred", "other"], "one model"),
        (["--on-missing", "zero"], "zero"),
    ],
)
def test_contradictions_are_refused(folder, tmp_path, words, message):
    start = [
        "--pred",
        str(folder / "pred"),
        "--pred-mirrored",
        str(folder / "mirrored"),
        "--attributes",
        "sex",
    ]
    start += ["--metadata", str(folder / "metadata.csv"), "--out", str(tmp_path / "out")]
    with pytest.raises(InputError, match=message):
        main([*start, *words])
    assert not (tmp_path / "out").exists()


def test_headers_with_an_orientation_are_refused(folder, tmp_path):
    (tmp_path / "a.nii.gz").write_bytes(b"")
    with pytest.raises(InputError, match="a.nii.gz"):
        audit.mirror_test(folder / "pred", tmp_path, folder / "metadata.csv", ["sex"])


def test_a_file_of_one_sided_structure_is_refused(folder, tmp_path):
    Image.fromarray(np.zeros((8, 8), np.uint8)).save(tmp_path / "a_right_femur.png")
    options = audit.MaskOptions(labels={"right femur": (1,), "left femur": (2,)})
    with pytest.raises(InputError, match="a_right_femur.png"):
        audit.mirror_test(folder / "pred", tmp_path, folder / "metadata.csv", ["sex"], options)


def test_ignored_pixels_are_ignored(folder):
    options = audit.MaskOptions(
        labels={**{name: (value,) for name, value in LABELS.items()}, "ignore": (255,)}
    )
    settings = audit.Settings(draws=99)
    result = audit.mirror_test(
        folder / "pred", folder / "mirrored", folder / "metadata.csv", ["sex"], options, settings
    )
    assert result.report["scores"]["dice"]["groups"]["sex=male"]["mean"] == 1
