"""Predicted Dice of `kneefair predict` in an audit, alone and beside measured scores."""

import dataclasses
import json

import numpy as np
import pandas as pd
import pytest

from kneefair_jax.audit import options, predicted_dice, result, run
from kneefair_jax.audit.cli import main
from kneefair_jax.errors import InputError
from kneefair_jax.predict import areas

SETTINGS = options.Settings(min_group_patients=3, draws=1000)
STRUCTURES = ("femur", "tibia")


def table_of_areas(predicted, untrusted=(), folder=""):
    """`areas.csv` of cases c0, c1, ...; predicted f[N, 2] by structure, intervals of 0.05 below and 0.02 above."""
    rows = []
    for number, dice in enumerate(predicted):
        case = f"c{number}"
        for label, (structure, value) in enumerate(zip(STRUCTURES, dice, strict=True), start=1):
            warned = number in untrusted
            rows.append(
                {
                    "file": f"{case}.png",
                    "file_id": f"sha256:{number}",
                    "structure": structure,
                    "label": label,
                    "area_pixels": 100,
                    "spacing_kind": "unknown",
                    "predicted_dice": value,
                    "predicted_dice_low": value - 0.05,
                    "predicted_dice_high": min(value + 0.02, 1),
                    "dice_trusted": "no" if warned else "yes",
                    "warning": "may lie upside down" if warned and label == 1 else "",
                    "mask": f"masks/{folder}{case}.png",
                }
            )
    return pd.DataFrame(rows, columns=areas.COLUMNS)


def metadata(count):
    return pd.DataFrame(
        {
            "case_id": [f"c{number}" for number in range(count)],
            "patient_id": [f"p{number}" for number in range(count)],
            "sex": ["f" if number % 2 else "m" for number in range(count)],
        }
    )


def predictions(count=40, gap=0.03):
    """Dice of women lower by a gap."""
    dice = 0.93 + 0.02 * np.random.default_rng(0).random((count, 2))
    dice[1::2] -= gap
    return dice.round(4)


def scores(values):
    rows = [
        (f"c{n}", structure, v)
        for n, row in enumerate(values)
        for structure, v in zip(STRUCTURES, row, strict=True)
    ]
    return pd.DataFrame(rows, columns=["case_id", "structure", "dice"])


def test_groups_are_compared_without_reference_masks():
    dice = predictions()
    untrusted = {1, 3, 5, 8}
    audit = run.predicted(table_of_areas(dice, untrusted, "site/"), metadata(40), ["sex"], settings=SETTINGS)
    report = audit.report
    kept = np.array([n for n in range(40) if n not in untrusted])
    groups = report["scores"]["dice"]["groups"]
    for name, remainder in (("sex=m", 0), ("sex=f", 1)):
        rows = kept[kept % 2 == remainder]
        assert groups[name]["mean"] == pytest.approx(dice[rows].mean())
        predicted = report["predicted_dice"]["groups"][name]
        assert predicted["predicted"]["estimate"] == pytest.approx(dice[rows].mean())
        assert predicted["low"] == pytest.approx((dice[rows] - 0.05).mean())
        assert predicted["error"] is None and predicted["outside"] is None
    assert report["predicted_dice"]["groups"]["sex=f"]["untrusted"]["count"] == 3
    assert report["predicted_dice"]["groups"]["sex=m"]["untrusted"]["count"] == 1
    assert predicted_dice.WARNING in report["cohort"]["warnings"]
    assert report["scores"]["dice"]["summaries"]["sex"]["test"]["p_holm"] < 0.05
    assert set(audit.excluded["reason"]) == {"prediction not trusted"}
    # Excluded films are counted by group.
    assert report["cohort"]["flow"]["not_tested"]["sex=f"]["not_tested"] == 3


def test_coverage_and_error_are_those_of_the_measured_scores():
    dice = predictions(gap=0)
    measured = dice + 0.01
    women, men = slice(1, None, 2), slice(0, None, 2)
    measured[women] -= 0.04  # 0.03 below the prediction: in the interval
    measured[1:8:2, 0] -= 0.05  # four women: the femur is outside
    choice = options.CaseOptions(predicted_dice=table_of_areas(dice, {0}))
    audit = run.table(
        scores(measured.round(4)), ["sex"], metadata=metadata(40), options=choice, settings=SETTINGS
    )
    by_group = audit.report["predicted_dice"]["groups"]
    female, male = by_group["sex=f"], by_group["sex=m"]
    assert (female["outside"]["count"], female["outside"]["rate"]["n"]) == (4, 20)
    assert (male["outside"]["count"], male["outside"]["rate"]["n"]) == (0, 19)  # one is not trusted
    assert female["covered"] == pytest.approx(1 - 4 / 40)
    errors = (measured - dice).mean(1)
    assert female["error"]["estimate"] == pytest.approx(errors[women].mean(), abs=1e-4)
    assert male["error"]["estimate"] == pytest.approx(errors[men][1:].mean(), abs=1e-4)
    high = female["error"]["interval"][1]
    assert high < 0 < male["error"]["interval"][0]
    # The scores of the audit are the measured ones.
    assert audit.report["scores"]["dice"]["groups"]["sex=m"]["mean"] == pytest.approx(
        measured[men].mean(), abs=1e-4
    )
    rows = audit.predicted_dice.set_index(["structure", "group"])
    assert rows.loc[("femur", "sex=f"), "outside_patients"] == 4
    assert rows.loc[("tibia", "sex=f"), "outside_patients"] == 0
    assert rows.loc[("all", "sex=f"), "covered_share"] == pytest.approx(0.9)


def test_the_command_writes_page_and_table(tmp_path, capsys):
    table_of_areas(predictions(), {1}).to_csv(tmp_path / "areas.csv", index=False)
    metadata(40).to_csv(tmp_path / "metadata.csv", index=False)
    words = ["--predicted-dice", str(tmp_path / "areas.csv"), "--metadata", str(tmp_path / "metadata.csv")]
    out = tmp_path / "out"
    assert main([*words, "--attributes", "sex", "--draws", "1000", "--out", str(out)]) == 0
    printed = capsys.readouterr().out
    assert "predicted Dice" in printed and result.PREDICTED_DICE in printed
    page = (out / "index.html").read_text()
    assert predicted_dice.TITLE in page and 'id="section-predicted-dice-by-group"' in page
    report = json.loads((out / "report.json").read_text())
    assert report["predicted_dice"]["overall"]["untrusted"]["count"] == 1
    assert (
        len(pd.read_csv(out / result.PREDICTED_DICE)) == 3 * 3
    )  # all and two structures; all and two groups


def test_whole_bones_are_not_scored_twice():
    table = table_of_areas(predictions(12))
    bones = table[table["structure"] == "femur"].assign(structure="whole femur", label=1)
    bones["mask"] = bones["mask"].str.replace("masks/", "outlines/").str.replace(".png", "_whole_femur.png")
    both = pd.concat([bones, table])
    read = predicted_dice.read(both)
    assert set(read.cases) == {f"c{n}" for n in range(12)}
    assert set(predicted_dice.scores(read)["structure"]) == set(STRUCTURES)
    assert set(read.table["structure"]) == {*STRUCTURES, "whole femur"}


def test_uninformative_predictions_are_excluded():
    table = table_of_areas(predictions(12))
    is_tibia = table["structure"] == "tibia"
    table.loc[is_tibia & table.index.isin(range(10)), "predicted_dice_low"] = 0.1
    # Five of twelve: the others say something, so all count, whatever their width.
    assert len(predicted_dice.read(table).table) == 24
    table.loc[is_tibia & table.index.isin(range(16)), "predicted_dice_low"] = 0.1
    audit = run.predicted(table, metadata(12), ["sex"], settings=SETTINGS)
    assert set(audit.cases["structure"]) == {"femur"}
    assert any("tibia" in note for note in audit.notes)
    assert any("tibia" in note for note in audit.report["cohort"]["notes"])


def test_a_structure_that_some_cases_lack_makes_no_gap():
    dice = np.tile([0.95, 0.85], (40, 1))
    table = table_of_areas(dice).astype(object)
    rows = (table["structure"] == "tibia") & table["file"].isin([f"c{n}.png" for n in range(1, 40, 4)])
    table.loc[rows, [*predicted_dice.DICE, "dice_trusted"]] = ["", "", "", ""]
    audit = run.predicted(table, metadata(40), ["sex"], settings=SETTINGS)
    groups = audit.report["predicted_dice"]["groups"]
    for name in ("sex=f", "sex=m"):
        assert groups[name]["predicted"]["estimate"] == pytest.approx(0.9)
        assert groups[name]["low"] == pytest.approx(0.85)


def test_a_low_prediction_is_a_failure_and_not_left_out():
    dice = predictions(40, gap=0)
    dice[1:9:2] = 0.3
    audit = run.predicted(table_of_areas(dice), metadata(40), ["sex"], settings=SETTINGS)
    failures = audit.report["rates"]["endpoints"]["failure"]["groups"]
    assert failures["sex=f"]["count"] == 4 and failures["sex=m"]["count"] == 0


def test_cases_are_matched_by_path_or_name_and_split():
    dice = predictions(12)
    table = table_of_areas(dice, folder="site1/")
    ids = metadata(12).assign(case_id=lambda frame: "site1/" + frame["case_id"])
    for frame in (ids, metadata(12)):
        assert (
            run.predicted(table, frame, ["sex"], settings=SETTINGS).report["predicted_dice"]["overall"][
                "cases"
            ]
            == 12
        )
    both = pd.concat(
        [table, table_of_areas(dice, folder="site2/").assign(file_id=lambda t: t["file_id"] + "x")]
    )
    with pytest.raises(InputError):
        run.predicted(both, metadata(12), ["sex"], settings=SETTINGS)
    split = metadata(12).assign(split=["test"] * 8 + ["train"] * 4)
    choice = options.CaseOptions(split="test")
    audit = run.predicted(table, split, ["sex"], options=choice, settings=SETTINGS)
    assert audit.report["predicted_dice"]["overall"]["cases"] == 8
    assert any("4 films" in note for note in audit.notes)
    # The order of the rows is free.
    shuffled = table.sample(frac=1, random_state=0)
    assert (
        run.predicted(shuffled, metadata(12), ["sex"], settings=SETTINGS).report["predicted_dice"]
        == run.predicted(table, metadata(12), ["sex"], settings=SETTINGS).report["predicted_dice"]
    )


def changed(column, row, value):
    table = table_of_areas(predictions(12)).astype(object)
    table.loc[row, column] = value
    return table


@pytest.mark.parametrize(
    "table",
    [
        table_of_areas(predictions(12)).drop(columns="dice_trusted"),
        table_of_areas(predictions(12)).assign(**dict.fromkeys(predicted_dice.DICE, "")),
        changed("predicted_dice", 3, 1.4),
        changed("predicted_dice_low", 3, 0.99),
        changed("predicted_dice_high", 3, "high"),
        changed("predicted_dice_high", 3, ""),
        changed("mask", slice(0, 1), "outlines/c0.png"),
        changed("structure", 1, "femur"),
        table_of_areas(predictions(12), set(range(12))),
        table_of_areas(predictions(12)).assign(mask="masks/other.png").iloc[:2],
    ],
)  # fmt: skip
def test_unusable_tables_are_refused(table):
    with pytest.raises(InputError):
        run.predicted(table, metadata(12), ["sex"], settings=SETTINGS)


def test_another_model_structure_or_case_is_refused():
    dice = predictions(12)
    choice = options.CaseOptions(predicted_dice=table_of_areas(dice))
    several = pd.concat([scores(dice).assign(model=name) for name in "ab"])
    with pytest.raises(InputError):
        run.table(several, ["sex"], metadata=metadata(12), options=choice, settings=SETTINGS)
    renamed = scores(dice).assign(structure=lambda table: table["structure"] + "s")
    with pytest.raises(InputError):
        run.table(renamed, ["sex"], metadata=metadata(12), options=choice, settings=SETTINGS)
    others = metadata(12).assign(case_id=lambda table: "x" + table["case_id"])
    with pytest.raises(InputError):
        run.table(
            scores(dice).assign(case_id=lambda table: "x" + table["case_id"]), ["sex"], metadata=others,
            options=choice, settings=SETTINGS,
        )  # fmt: skip


def test_options_of_masks_need_reference_masks(tmp_path, capsys):
    words = [
        "--predicted-dice",
        "a.csv",
        "--metadata",
        "m.csv",
        "--attributes",
        "sex",
        "--out",
        str(tmp_path),
    ]
    with pytest.raises(InputError):
        main([*words, "--labels", "femur=1"])
    with pytest.raises(InputError):
        main([word for word in words if word not in ("--metadata", "m.csv")])
    assert dataclasses.asdict(options.CaseOptions())["predicted_dice"] is None
