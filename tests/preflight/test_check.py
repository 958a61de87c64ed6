"""`--mode=check`: its results, its log, and its refusals."""

import json

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from configs import folder as folder_config
from configs import quickstart
from kneefair_jax.data import phantom
from kneefair_jax.errors import InputError
from kneefair_jax.runs import modes
from tests.films import folder


def config(root, **changes):
    settings = folder_config.get_config()
    settings.data.update({"root": str(root), "size": (40, 48), "structures": "disc,square", **changes})
    settings.model.update({"widths": (4,), "convolutions": 1})
    settings.train.batch_size = 8
    settings.lock()
    return settings


pytestmark = pytest.mark.usefixtures("terminal_log")


@pytest.fixture
def root(tmp_path):
    """The films with smooth shadows of their own, so that no two are alike."""
    root = folder(tmp_path / "films")
    rng = np.random.default_rng(1)
    for k in range(24):
        coarse = Image.fromarray(rng.integers(0, 255, (5, 6)).astype(np.uint8))
        coarse.resize((48, 40), Image.Resampling.BICUBIC).save(root / f"images/{k}.png")
        with Image.open(root / f"masks/{k}.png") as mask:
            mask.resize((48, 40), Image.Resampling.NEAREST).save(root / f"masks/{k}.png")
    return root


def check_json(workdir):
    return json.loads((workdir / "check" / "check.json").read_text())


def test_a_cohort_in_order(root, tmp_path, capsys):
    modes.check(config(root), tmp_path / "run")
    output = capsys.readouterr().out
    assert "patients (cases)" in output and "age=missing" in output
    note = "age differs between the cases of one patient for 1 patient"
    cohort, machine = output.split("machine: ")
    assert f"note: {note}" in cohort and "a training step takes" in machine
    assert "label errors: not compared; label scheme: 'disc' is none of ('femur'," in output
    assert "near-duplicate films of different patients: none" in output and "outliers: none" in output
    result = check_json(tmp_path / "run")
    assert result["cohort"] == {
        "cases": 24,
        "patients": 12,
        "excluded": [],
        "orientation": {"consistent": "", "turned": []},
        "outliers": [],
        "absent": {},
        "interpolated": [],
        "void": {},
        "headers": [],
        "header_notes": {},
        "unknown_spacing": [],
        "unreadable": [],
        "spacing_kinds": {"table": 24},
    }
    small = result["small_groups"]
    assert cohort.count("note: ") == 1 + len(small)
    assert {group["group"] for group in small} == {"sex=f", "sex=m", "age=<=50", "age=51-64", "age=>=65"}
    assert all(group["tested"] < group["minimum"] == 10 and not group["remedies"] for group in small)
    sizes = {row["group"]: row["cases"] for row in result["groups"] if row["split"] == "all"}
    assert sizes["sex=f"] == 12 and sizes["age=missing"] == 2
    with Image.open(tmp_path / "run" / "check" / "contact_sheet.png") as sheet:
        assert sheet.height > 6 * 100  # sex=f, sex=m, three ages and the missing one
    assert not {"config.json", "checkpoints", "report"} & {path.name for path in (tmp_path / "run").iterdir()}


def test_what_is_wrong_is_named_by_case(root, tmp_path, capsys):
    table = pd.read_csv(root / "metadata.csv")
    table.loc[5, "spacing_mm"] = 1.5
    table.to_csv(root / "metadata.csv", index=False)
    with Image.open(root / "masks/9.png") as mask:
        labels = np.asarray(mask).copy()
    labels[labels == 2] = 0
    Image.fromarray(labels).save(root / "masks/9.png")
    with Image.open(root / "images/0.png") as image:  # of p0, and again as a film of p8
        copy = np.asarray(image) * 0.9 + np.random.default_rng(0).normal(5, 3, (40, 48))
    Image.fromarray(np.clip(copy, 0, 255).astype(np.uint8)).save(root / "images/17.png")
    modes.check(config(root), tmp_path / "run")
    output = capsys.readouterr().out
    assert "square is absent from 1 of 24 masks: c9" in output
    assert "  c5: width of the picture, mm 72, median 24" in output
    assert "near-duplicate films of different patients: 1" in output
    result = check_json(tmp_path / "run")
    (pair,) = result["near_duplicates"]
    assert pair["cases"] == ["c0", "c17"] and pair["likeness"] > 0.9 and len(pair["splits"]) == 2
    assert {outlier["case_id"] for outlier in result["cohort"]["outliers"]} == {"c5"}
    assert result["cohort"]["absent"] == {"square": ["c9"]}


@pytest.mark.slow
def test_an_external_cohort_is_read_too(root, tmp_path, capsys):
    other = folder(tmp_path / "other", patient="x")
    (other / "images/3.png").write_bytes((root / "images/20.png").read_bytes())
    (other / "masks/3.png").write_bytes((root / "masks/20.png").read_bytes())
    modes.check(config(root, external=str(other)), tmp_path / "run")
    assert "outliers of the external cohort" in capsys.readouterr().out
    result = check_json(tmp_path / "run")
    assert result["external"]["cases"] == 24
    groups = [group for group in result["identical_films"] if group["cases"] == ["c20", "c3"]]
    assert len(groups) == 1 and groups[0]["splits"][1] == "external" and groups[0]["patients"] == 2


@pytest.mark.parametrize("on_read_error", ["stop", "skip"])
def test_broken_films_are_all_listed_and_refused_if_training_would(root, tmp_path, capsys, on_read_error):
    for k in range(7):
        (root / f"images/{3 * k}.png").write_bytes(b"torn")
    settings = config(root, on_read_error=on_read_error)
    if on_read_error == "stop":
        with pytest.raises(InputError, match="^7 of 24 cases cannot be read"):
            modes.check(settings, tmp_path / "run")
    else:
        modes.check(settings, tmp_path / "run")
    assert "excluded: 7 (listed in excluded.csv)" in capsys.readouterr().out
    listed = pd.read_csv(tmp_path / "run" / "check" / "excluded.csv")
    assert listed["what"].tolist() == [f"c{3 * k}" for k in range(7)]
    assert check_json(tmp_path / "run")["cohort"]["cases"] == 17


def test_what_training_refuses_a_check_refuses(root, tmp_path):
    settings = config(root)
    settings.mitigation.groups = ("race",)
    with pytest.raises(InputError, match="mitigation.groups"):
        modes.check(settings, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_of_folds_the_first_is_checked(root, tmp_path):
    modes.check(config(root, folds=3), tmp_path / "run")
    counts = {
        row["split"]: row["patients"]
        for row in check_json(tmp_path / "run")["groups"]
        if row["group"] == "all"
    }
    assert counts["test"] == 4 and counts["all"] == 12


@pytest.mark.slow  # fast: tests/hostile/test_masks.py, a tenth of the masks is faulty
def test_masks_that_look_wrong_are_named_and_drawn(tmp_path, capsys):
    """The network that ships on 24 knees: one mask lies four pixels too low, one film is blank."""
    phantoms = quickstart.get_config().data.phantom
    phantoms.update({"patients": 24, "knees_per_patient": 1})
    source = phantom.source(phantoms, size=(32, 40), seed=9)  # as other tests draw them
    root = tmp_path / "films"
    for name in ("images", "masks"):
        (root / name).mkdir(parents=True)
    for k, case in enumerate(source.read(range(24))):
        Image.fromarray(case.image[..., 0] * np.uint8(k != 11)).save(root / f"images/{k}.png")
        mask = np.pad(case.label, ((4, 0), (0, 0)))[:32] if k == 5 else case.label
        Image.fromarray(mask).save(root / f"masks/{k}.png")
    numbers = range(24)
    table = pd.DataFrame(
        {
            "case_id": [f"c{k}" for k in numbers],
            "patient_id": [f"p{k}" for k in numbers],
            "image": [f"images/{k}.png" for k in numbers],
            "mask": [f"masks/{k}.png" for k in numbers],
            "sex": [("f", "m")[k % 2] for k in numbers],
        }
    )
    table.to_csv(root / "metadata.csv", index=False)
    settings = config(root, size=(32, 40), structures="knee", attributes=("sex",))
    modes.check(settings, tmp_path / "run")
    output = capsys.readouterr().out
    assert "; moves in pixels of the working grid" in output
    assert (
        "masks that look wrong: " in output and "  c5: fits better when moved 4 pixels up (Dice 0." in output
    )
    part = check_json(tmp_path / "run")["cohort"]["label_errors"]
    flagged = {one["case_id"] for one in part["flagged"]}
    assert {"c5", "c11"} <= flagged and len(flagged) <= 4
    assert len(part["scores"]) == 24 and part["median_dice"] > 0.9
    with Image.open(tmp_path / "run" / "check" / "label_errors.png") as sheet:
        assert sheet.width == 3 * 198 + 6


def test_masks_are_compared_with_no_network_where_none_is_wanted(root, tmp_path, capsys):
    settings = config(root)
    settings.check.against = ""
    modes.check(settings, tmp_path / "run")
    assert "label errors" not in capsys.readouterr().out
    assert not (tmp_path / "run" / "check" / "label_errors.png").exists()


@pytest.mark.parametrize(
    ("against", "message"), [("nothing", "weights 'nothing'"), ("phantom", "label scheme: 'disc' is none of")]
)
def test_a_checkpoint_asked_for_by_name_must_be_there_and_fit(root, tmp_path, against, message):
    settings = config(root)
    settings.check.against = against
    with pytest.raises(InputError, match=message):
        modes.check(settings, tmp_path / "run")
