import json

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from kneefair_jax import audit
from kneefair_jax.audit import result as audit_result
from kneefair_jax.errors import InputError
from kneefair_jax.metrics import surface_distances
from kneefair_jax.report import checklist, pdf
from kneefair_jax.report.text import terminal
from tests import documents
from tests.audit import folder

LABELS = {"femur": 1, "tibia": 2}
MISSING = ("12", "CLAIM 2024")  # the item of the checklist on missing data
QUICK = audit.Settings(draws=40, min_group_patients=2)


@pytest.fixture
def root(tmp_path):
    return folder.write(tmp_path)


def masks(root, pred=None, attributes=("sex",), settings=QUICK, **options):
    return audit.masks(
        root / "truth",
        pred or root / "pred",
        root / "metadata.csv",
        attributes,
        audit.MaskOptions(**{"labels": LABELS} | options),
        settings,
    )


def dice(truth, prediction, value):
    t, p = truth == value, prediction == value
    return 2 * (t & p).sum() / (t.sum() + p.sum())


def test_the_table_holds_each_case_s_scores_by_hand(root):
    result = masks(root)
    table = result.cases.set_index(["case_id", "structure"])
    assert len(table) == 2 * folder.CASES
    for i in range(folder.CASES):
        truth, prediction = folder.truth_of(i), folder.prediction_of(i)
        distances = surface_distances(prediction, truth, 2, (0.5, 0.5))
        for s, structure in enumerate(LABELS):
            row = table.loc[f"c{i}", structure]
            t, p = truth == s + 1, prediction == s + 1
            assert row["dice"] == pytest.approx(dice(truth, prediction, s + 1))
            assert row["iou"] == pytest.approx((t & p).sum() / (t | p).sum())
            assert row["hd95_mm"] == distances["hd95_mm"][s]
            assert row["nsd"] == distances["nsd"][s]
            assert row["true_area_mm2"] == pytest.approx(t.sum() * 0.25)
            assert row["pred_area_mm2"] == pytest.approx(p.sum() * 0.25)
            assert row["sex"] == folder.sex_of(i)
    assert result.report["run"]["spacing"] == [0.5, 0.5]


def test_groups_are_means_over_patients_of_means_over_cases(root):
    report = masks(root).report
    macro = {
        i: np.mean([dice(folder.truth_of(i), folder.prediction_of(i), value) for value in (1, 2)])
        for i in range(folder.CASES)
    }
    for sex, first in (("male", 0), ("female", 1)):
        patients = [np.mean([macro[i], macro[i + 2]]) for i in range(first, folder.CASES, 4)]
        entry = report["scores"]["dice"]["groups"][f"sex={sex}"]
        assert entry["mean"] == pytest.approx(np.mean(patients))
        assert (entry["patients"], entry["cases"]) == (6, 12)


def test_formats_may_differ_and_a_table_s_paths_win(root):
    """Truth as NIfTI below its paths in the table, predictions as NPY in nested folders: the same numbers."""
    other = root / "other"
    for i in range(folder.CASES):
        path = other / "labels" / f"mask{i}.nii.gz"
        path.parent.mkdir(parents=True, exist_ok=True)
        folder.save_nifti(folder.truth_of(i), path, 0.5)
        (other / "films").mkdir(exist_ok=True)
        (other / "films" / f"c{i}.png").touch()  # never taken for a mask
        nested = other / "pred" / f"site{i % 2}"
        nested.mkdir(parents=True, exist_ok=True)
        np.save(nested / f"c{i}.npy", folder.prediction_of(i).astype(np.int16))
    folder.write_table(
        other / "metadata.csv",
        folder.rows_of(mask=lambda i: f"labels/mask{i}.nii.gz", spacing_mm=lambda i: ""),
    )
    options = audit.MaskOptions(labels=LABELS)
    result = audit.masks(other, other / "pred", other / "metadata.csv", ["sex"], options, QUICK)
    pd.testing.assert_frame_equal(result.cases, masks(root).cases)
    assert not result.notes


def test_labels_are_mapped_joined_and_left_out(root):
    """The predictions draw the tibia as 7 and 8, and mark the film's border as 9."""
    for i in range(folder.CASES):
        mask = folder.prediction_of(i)
        mask[mask == 2] = 7
        mask[:, 6][mask[:, 6] == 7] = 8
        mask[-1] = 9
        folder.save(mask, root / "other" / f"c{i}.png")
    pred_labels = {"tibia": (7, 8), "femur": 1, "background": 9}
    mapped = masks(root, root / "other", pred_labels=pred_labels)
    pd.testing.assert_frame_equal(mapped.cases, masks(root).cases)


def test_values_without_names_become_numbered_structures(root):
    discovered, named = masks(root, labels=None), masks(root)
    assert discovered.report["cohort"]["structures"] == ["structure 1", "structure 2"]
    assert discovered.cases["dice"].tolist() == named.cases["dice"].tolist()


def test_without_a_spacing_distances_are_unknown_and_it_says_so(root):
    folder.write_table(
        root / "metadata.csv", folder.rows_of(spacing_mm=lambda i: "" if i == 3 else "0.5x0.25")
    )
    result = masks(root)
    unknown = result.cases["case_id"] == "c3"
    assert result.cases.loc[unknown, ["hd95_mm", "nsd", "true_area_mm2"]].isna().all(axis=None)
    assert result.cases.loc[~unknown, ["hd95_mm", "nsd", "true_area_mm2"]].notna().all(axis=None)
    assert result.cases["dice"].notna().all()
    assert "The spacing is unknown in 1 of 24 cases (c3), so" in result.notes[0]
    assert result.report["run"]["spacing"] is None


def remove(root, *names):
    for name in names:
        (root / name).unlink()


def test_a_missing_prediction_is_refused_left_out_or_scored_as_empty(root):
    remove(root, "pred/c5.png")
    with pytest.raises(InputError, match=r"no prediction for 1 of 24 cases \(c5\).*case_id") as error:
        masks(root)
    assert "--link-dir" not in str(error.value)  # the other files have their names
    skipped = masks(root, on_missing="skip")
    assert "c5" not in set(skipped.cases["case_id"])
    assert skipped.report["scores"]["dice"]["groups"]["sex=female"]["cases"] == 11
    assert "No prediction for 1 of 24 cases (c5): excluded." in skipped.notes
    zero = masks(root, on_missing="zero")
    rows = zero.cases[zero.cases["case_id"] == "c5"]
    diagonal = np.hypot(20 * 0.5, 24 * 0.5)
    assert rows["dice"].tolist() == [0, 0]
    assert rows["nsd"].tolist() == [0, 0]
    assert rows["hd95_mm"].tolist() == pytest.approx([diagonal] * 2)
    assert "No prediction for 1 of 24 cases (c5): scored as empty masks." in zero.notes
    assert zero.mask_faults[["case_id", "mask"]].to_numpy().tolist() == [["c5", ""]]


def test_the_first_screen_states_whose_predictions_are_missing(root, tmp_path):
    for i in range(folder.CASES):
        folder.save(folder.truth_of(i), root / "best" / f"c{i}.png")
    remove(root, "best/c2.png", "best/c4.png", "pred/c2.png")
    pred = {"a": root / "pred", "b": root / "best"}
    texts = {
        "zero": ("1 prediction by a is missing", "2 predictions by b are missing", "mask_faults.csv"),
        "skip": ("2 of 24 cases are excluded (no prediction by a (1) and b (2)", "excluded.csv"),
    }
    for on_missing, expected in texts.items():
        result = masks(root, pred, on_missing=on_missing)
        pages = result.write(tmp_path / on_missing)
        for model, page in pages.items():
            first_screen, _, cards = page.read_text().partition('class="card')
            assert all(text in first_screen for text in expected)
            assert (
                f"<h2>{model} in detail</h2>" in first_screen and f"<span>sex</span>, {model}</h2>" in cards
            )


def test_what_is_skipped_for_one_model_is_skipped_for_all(root):
    for i in range(folder.CASES):
        folder.save(folder.truth_of(i), root / "best" / f"c{i}.png")
    remove(root, "best/c2.png", "truth/c7.png")
    pred = {"a": root / "pred", "b": root / "best"}
    with pytest.raises(InputError, match=r"no reference mask for 1 of 24 cases \(c7\)"):
        masks(root, pred, on_missing="zero")
    result = masks(root, pred, on_missing="skip")
    for _, rows in result.cases.groupby("model"):
        assert set(rows["case_id"]) == {f"c{i}" for i in range(folder.CASES)} - {"c2", "c7"}
    assert any("No prediction by b for 1 of 23 cases (c2)" in note for note in result.notes)
    flow = result.report["cohort"]["flow"]
    assert flow["excluded"] == [
        {"reason": "no reference mask", "records": 1},
        {"reason": "no prediction by b (1)", "records": 1},
    ]
    assert (flow["listed"], flow["tested"]["cases"]) == (24, 22)


def test_excluded_cases_and_files_are_listed_by_name(root, tmp_path):
    """c2 lacks both predictions, c4 one; c7 has no reference mask; c9 is empty in truth and prediction."""
    for i in range(folder.CASES):
        folder.save(folder.truth_of(i), root / "best" / f"c{i}.png")
    remove(root, "pred/c2.png", "best/c2.png", "best/c4.png", "truth/c7.png", "pred/c7.png", "best/c7.png")
    for name in ("truth/c9", "pred/c9"):
        folder.save(np.zeros((20, 24), np.uint8), root / f"{name}.png")
    folder.save(folder.truth_of(0), root / "best" / "stranger.png")
    result = masks(root, {"a": root / "pred", "b": root / "best"}, on_missing="skip")
    result.write(tmp_path / "out")
    table = pd.read_csv(tmp_path / "out" / "excluded.csv", keep_default_na=False)
    assert [tuple(row) for row in table.itertuples(index=False)] == [
        ("c7", "reference", "no reference mask", "", "female"),
        ("", "b", "no case with a reference mask matches the prediction by b", "stranger.png", ""),
        ("c2", "a", "no prediction", "", "male"),
        ("c2", "b", "no prediction", "", "male"),
        ("c4", "b", "no prediction", "", "male"),
        ("c9", "a", "no Dice of any structure", "", "female"),
    ]
    # By b, c9 has a Dice of 0.
    assert [report["cohort"]["flow"]["not_tested"] for report in result.reports.values()] == [
        {"sex=female": {"cases": 12, "not_tested": lost}, "sex=male": {"cases": 12, "not_tested": 2}}
        for lost in (2, 1)
    ]
    # Records count once, whichever models lack them.
    assert result.report["cohort"]["flow"]["excluded"][1:] == [
        {"reason": "no prediction by a (1) and b (2), 1 of them by several", "records": 2}
    ]
    page = (tmp_path / "out" / "index.html").read_text()
    assert page.index("excluded.csv") < page.index("female 2 of 12, male 2 of 12") < page.index('class="card')
    assert any("female 2 of 12" in line for line in terminal.verdicts(result.reports))


def test_the_checklist_states_exclusions_beside_unknown_attributes(root):
    """c5, of unknown sex, has no prediction; of the tested cases none lacks an attribute."""
    folder.write_table(
        root / "metadata.csv", folder.rows_of(sex=lambda i: "" if i == 5 else folder.sex_of(i))
    )
    remove(root, "pred/c5.png")
    folder.save(folder.truth_of(0), root / "truth" / "unlisted.png")
    report = masks(root, on_missing="skip").report
    assert report["cohort"]["unmatched"] == [
        {"reason": "no row of metadata.csv matches the reference mask", "records": 1}
    ]
    (text,) = {item.value for item in checklist.items(report) if (item.number, item.guideline) == MISSING}
    assert "no attribute of a tested case is unknown" in text
    assert "1 record (no prediction)" in text and "1 file (no row of metadata.csv matches" in text


def test_every_file_of_an_audit_is_documented(root, tmp_path, monkeypatch):
    folder.save(np.ascontiguousarray(folder.truth_of(3)[::-1]), root / "pred" / "c3.png")
    folder.save(folder.truth_of(0), root / "pred" / "stranger.png")
    result = masks(root, {"a": root / "pred", "b": root / "truth"})
    monkeypatch.setattr(pdf, "write", lambda path, html: path.write_text(html))
    label_errors = pd.DataFrame({"case_id": ["c0"]})
    predicted = pd.DataFrame({"structure": ["all"], "group": ["all"]})
    measured = pd.DataFrame(
        {"model": ["a"], "measurement": ["fta"], "reference": [np.nan], "predicted": [np.nan]}
    )
    result._replace(
        label_errors=label_errors,
        predicted_dice=predicted,
        measurements=measured,
        measurement_errors=measured,
    ).write(tmp_path / "out", with_pdf=True)
    names = {path.name for path in (tmp_path / "out").rglob("*") if path.is_file()}
    # Every kind of file is there.
    assert names == {*audit_result._TARGETS, ".written-audit.json"}
    section = (
        documents.ROOT.joinpath("docs/reference/outputs.md").read_text().partition("## Files of an audit")[2]
    )
    assert {name for name in names if f"`{name}`" not in section} == set()


def test_an_audit_without_exclusions_writes_no_list_of_them(root, tmp_path):
    masks(root).write(tmp_path / "out")
    assert not (tmp_path / "out" / "excluded.csv").exists()


def test_several_models_are_compared_on_the_same_patients(root):
    for i in range(folder.CASES):
        folder.save(folder.truth_of(i), root / "best" / f"c{i}.png")
    result = masks(root, {"theirs": root / "pred", "best": root / "best"})
    models = result.report["models"]
    assert models["order"] == ["theirs", "best"]
    (pair,) = models["pairs"]
    groups = result.report["scores"]["dice"]["groups"]
    mean = result.report["scores"]["dice"]["overall"]["mean"]
    gap = groups["sex=male"]["mean"] - groups["sex=female"]["mean"]
    assert pair["change_of_mean"]["value"] == pytest.approx(1 - mean)
    assert pair["change_of_gap"]["value"] == pytest.approx(-gap)
    assert result.reports["best"]["scores"]["dice"]["overall"]["mean"] == 1


def test_extra_files_are_counted_not_scored(root):
    plain = masks(root)
    folder.save(folder.truth_of(0), root / "pred" / "stranger.png")
    folder.save(folder.truth_of(0), root / "truth" / "unlisted.png")
    (root / "pred" / "plans.json").write_text("{}")
    extra = masks(root)
    pd.testing.assert_frame_equal(extra.cases, plain.cases)
    of_prediction, of_reference = "no case with a reference mask", "no row of metadata.csv"
    text = "Excluded, since {} matches them: 1 x"
    assert f"{text.format(of_prediction)} prediction (stranger.png; all in excluded.csv)." in extra.notes
    assert f"{text.format(of_reference)} reference mask (unlisted.png; all in excluded.csv)." in extra.notes


def test_empty_masks_are_scored_and_noted(root):
    """c0: empty in truth and prediction; c1: in truth alone; c3: in the prediction alone."""
    empty = np.zeros((20, 24), np.uint8)
    for name in ("truth/c0", "pred/c0", "truth/c1", "pred/c3"):
        folder.save(empty, root / f"{name}.png")
    result = masks(root)
    scores = result.cases.set_index(["case_id", "structure"])["dice"]
    assert scores["c0"].isna().all()
    assert scores["c1"].tolist() == scores["c3"].tolist() == [0, 0]
    assert result.report["run"]["absent"] == {"femur": 1, "tibia": 1}
    assert "The reference mask is empty in 2 of 24 cases (such as c0)." in result.notes


def test_empty_predictions_are_counted_by_group(root):
    for i in (1, 3, 4):
        folder.save(np.zeros_like(folder.truth_of(i)), root / "pred" / f"c{i}.png")
    (note,) = [note for note in masks(root).notes if "is empty in" in note]
    assert note.startswith("The prediction is empty in 3 of 24 cases (such as c1)")
    assert "sex: female 2, male 1" in note


def test_pixels_larger_than_the_tolerance_are_pointed_out(root):
    folder.write_table(root / "metadata.csv", folder.rows_of(spacing_mm=lambda i: "1.2" if i == 2 else "1"))
    (note,) = [note for note in masks(root).notes if "tolerance" in note]
    assert "1 of 24 cases (c2)" in note


def test_a_copy_of_the_truth_scores_one_and_is_pointed_out(root):
    result = masks(root, root / "truth")
    block = result.report["scores"]["dice"]
    assert block["overall"]["mean"] == 1
    assert block["summaries"]["sex"]["gap"]["value"] == 0
    assert block["summaries"]["sex"]["ser"]["value"] is None
    (note,) = [
        note for note in result.notes if "equals the reference mask pixel by pixel in 24 of 24" in note
    ]
    assert note.startswith("WARNING")
    result.write(root / "out")  # a page with nothing to divide by
    assert "pixel by pixel in 24 of 24" in (root / "out" / "index.html").read_text()


def test_turned_predictions_are_pointed_out(tmp_path):
    folder.write(tmp_path)
    for i in range(folder.CASES):
        mask = np.zeros((24, 24), np.uint8)
        mask[:20] = folder.truth_of(i)
        folder.save(mask, tmp_path / "truth" / f"c{i}.png")
        np.save(tmp_path / "pred" / f"c{i}.npy", mask[::-1])
        (tmp_path / "pred" / f"c{i}.png").unlink()
    remedy, note = masks(tmp_path).notes
    assert remedy.startswith("WARNING: all 24 predictions") and "--orientation flip-ud" in remedy
    assert note.startswith("WARNING: predictions fit their counterparts") and "in 24 of 24 cases" in note
    right = masks(tmp_path, orientation="flip-ud")
    assert right.report["scores"]["dice"]["overall"]["mean"] == 1
    assert not any("flip" in note for note in right.notes)


def test_exchanged_labels_are_pointed_out(root):
    """And not taken for a turn, which brings two neighbours of one size to each other's place too."""
    for i in range(folder.CASES):
        mask = folder.prediction_of(i)
        folder.save(np.array([0, 2, 1], np.uint8)[mask], root / "pred" / f"c{i}.png")
    warning = next(note for note in masks(root).notes if note.startswith("WARNING"))
    assert "better when femur is called tibia, tibia is called femur" in warning
    assert "check their labels (--pred-labels)" in warning
    right = masks(root, pred_labels={"femur": 2, "tibia": 1})
    assert not any(note.startswith("WARNING") for note in right.notes)


def test_spacings_that_headers_state_differently_are_pointed_out(root):
    for name, mm in (("truth", 0.5), ("pred", 1.0)):
        for i in range(folder.CASES):
            mask = folder.truth_of(i) if name == "truth" else folder.prediction_of(i)
            folder.save_nifti(mask, root / name / f"c{i}.nii.gz", mm)
            (root / name / f"c{i}.png").unlink()
    folder.write_table(root / "metadata.csv", folder.rows_of(spacing_mm=lambda i: ""))
    result = masks(root)
    assert result.report["run"]["spacing"] == [0.5, 0.5]
    assert any("state different spacings in 24 of 24 cases" in note for note in result.notes)


def test_a_patient_with_two_values_counts_in_both_groups_and_is_pointed_out(root):
    folder.write_table(
        root / "metadata.csv", folder.rows_of(sex=lambda i: "male" if i == 1 else folder.sex_of(i))
    )
    result = masks(root)
    groups = result.report["scores"]["dice"]["groups"]
    assert (groups["sex=male"]["patients"], groups["sex=female"]["patients"]) == (7, 6)
    assert any(
        "differs between the cases of one patient for 1 patient (such as c1, c3)" in n for n in result.notes
    )


def test_a_group_of_one_is_shown_and_not_ranked(root):
    folder.write_table(
        root / "metadata.csv", folder.rows_of(sex=lambda i: "other" if i in (1, 3) else folder.sex_of(i))
    )
    block = masks(root).report["scores"]["dice"]
    assert block["groups"]["sex=other"]["patients"] == 1
    assert not block["groups"]["sex=other"]["ranked"]
    assert block["groups"]["sex=other"]["interval"] is None
    assert block["summaries"]["sex"]["worst"]["group"] == "sex=female"


def test_without_patient_ids_every_case_is_a_patient_and_it_says_so(root):
    rows = folder.rows_of()
    for row in rows:
        del row["patient_id"]
    folder.write_table(root / "metadata.csv", rows)
    result = masks(root)
    assert result.report["scores"]["dice"]["overall"]["patients"] == folder.CASES
    assert "no column patient_id" in result.notes[0]


def test_a_split_is_chosen_and_numbers_are_binned(root):
    changes = {"split": lambda i: "test" if i < 16 else "train", "age": lambda i: str(40 + i)}
    folder.write_table(root / "metadata.csv", folder.rows_of(**changes))
    result = masks(root, attributes=["age"], split="test", bins={"age": [50]})
    assert result.report["scores"]["dice"]["overall"]["cases"] == 16
    assert list(result.report["scores"]["dice"]["groups"]) == ["age=<=50", "age=>=51"]
    assert set(result.cases["split"]) == {"test"}


HTML, FORMULA = "<script>alert(1)</script>", '=HYPERLINK("http://x")'


def test_html_is_escaped_and_formulas_are_disarmed(root):
    folder.write_table(
        root / "metadata.csv",
        folder.rows_of(sex=lambda i: FORMULA if i % 2 else HTML, patient_id=lambda i: f"-P{i // 4}{i % 2}"),
    )
    result = masks(root, labels={"<b>femur": 1, "@tibia": 2}, settings=QUICK._replace(command=HTML))
    out = root / "out"
    result.write(out)
    page = (out / "index.html").read_text()
    assert "<script" not in page
    assert "<b>femur" not in page
    assert "&lt;script&gt;" in page
    csv = pd.read_csv(out / "cases.csv", dtype=str)
    assert set(csv["sex"]) == {f"'{FORMULA}", HTML}
    assert set(csv["structure"]) == {"<b>femur", "'@tibia"}
    assert csv["patient_id"].str.startswith("'-P").all()
    assert set(pd.read_parquet(out / "cases.parquet")["sex"]) == {FORMULA, HTML}
    assert json.loads((out / "report.json").read_text())["cohort"]["structures"] == ["<b>femur", "@tibia"]


def test_the_model_adjusts_for_confounders_of_the_cases_that_are_left(root):
    folder.write_table(
        root / "metadata.csv", folder.rows_of(bmi=lambda i: 20 + i % 5, KL=lambda i: i % 4 // 2)
    )
    (root / "pred" / "c0.png").unlink()
    result = masks(root, on_missing="skip")
    model = result.report["model"]["dice"]
    assert model["formula"] == "dice ~ sex + bmi + KL"
    assert model["excluded"] == ["log(area): follows from the other columns"]  # the same in all
    assert not {"bmi", "KL"} & set(result.cases)


def test_a_model_is_not_called_reference(root):
    with pytest.raises(InputError, match="another name"):
        masks(root, {"a": root / "pred", "reference": root / "pred"})


@pytest.mark.slow
def test_models_names_stay_inside_the_folder(root):
    result = masks(root, {"a": root / "pred", "../../b<i>": root / "truth"})
    pages = result.write(root / "new" / "out")
    assert [path.parent.parent.name for path in pages.values()] == ["new", "out"]
    assert sorted(path.name for path in (root / "new").rglob("*")) == sorted(
        ["out", ".written-audit.json", "cases.csv", "cases.parquet", "2-______b_i_"]
        + [
            "index.html",
            "checklist.csv",
            "checklist.html",
            "report.json",
            "report.schema.json",
            "groups.csv",
            "summaries.csv",
            "pairs.csv",
            "rates.csv",
            "rate_tests.csv",
            "models.csv",
        ]
        * 2
    )


def test_examples_are_drawn_on_the_images_or_on_grey(root):
    for i in range(folder.CASES):
        folder.save(np.full((40, 48), 7 * i, np.uint8), root / "films" / f"c{i}.png")
    drawn, grey = masks(root, images=root / "films"), masks(root)
    assert {view.rank for view in drawn.examples[""]} == {*"123456", "best", "median", "worst"}
    for one, other in zip(drawn.examples[""], grey.examples[""], strict=True):
        i = int(one.case_id.removeprefix("c"))
        assert one.image.shape == (20, 24)
        assert (one.image == 7 * i).all()
        assert np.ptp(other.image) == 0
        np.testing.assert_array_equal(one.prediction, folder.prediction_of(i))


def colour(root):
    Image.fromarray(np.zeros((20, 24, 3), np.uint8)).save(root / "pred" / "c4.png")


def other_size(root):
    folder.save(np.zeros((24, 20), np.uint8), root / "pred" / "c4.png")


def other_value(root):
    folder.save(np.full((20, 24), 5, np.uint8), root / "pred" / "c4.png")


def truth_of_255(root):
    for i in range(folder.CASES):
        folder.save((folder.truth_of(i) > 0).astype(np.uint8) * 255, root / "truth" / f"c{i}.png")


def all_empty(root):
    for i in range(folder.CASES):
        folder.save(np.zeros((20, 24), np.uint8), root / "truth" / f"c{i}.png")
        folder.save(np.zeros((20, 24), np.uint8), root / "pred" / f"c{i}.png")


def two_files(root):
    np.save(root / "pred" / "c4.npy", folder.prediction_of(4))


def no_predictions(root):
    for path in (root / "pred").iterdir():
        path.unlink()


def table_of(**changes):
    return lambda root: folder.write_table(root / "metadata.csv", folder.rows_of(**changes))


def nothing(root):
    pass


REFUSED = {
    "absent folder": (nothing, {"pred": "nowhere"}, "--pred nowhere: no such folder"),
    "absent truth": (nothing, {"truth": "nowhere"}, "--truth nowhere: no such folder"),
    "attribute absent": (nothing, {"attributes": ["race", "age"]}, "names 'age', which is not an attribute column"),
    "attribute reserved": (nothing, {"attributes": ["spacing_mm"]}, "there are: sex, race"),
    "attribute twice": (nothing, {"attributes": ["sex", "sex"]}, "names 'sex' twice"),
    "bins of another": (nothing, {"bins": {"age": [50]}}, "--bins names 'age'"),
    "colour": (colour, {}, r"row 6: .*c4.png: a mask in color"),
    "duplicated case": (table_of(case_id=lambda i: "c1" if i == 2 else f"c{i}"), {}, "row 4: case_id 'c1' is also in"),
    "empty attribute": (table_of(sex=lambda i: ""), {}, "column 'sex' is empty; fill it in.*--attr"),
    "labels differ": (nothing, {"pred_labels": {"femur": 1, "patella": 2}}, "name different structures"),
    "labels overlap": (nothing, {"labels": {"femur": 1, "all": [1, 2]}}, "value 1 is both 'femur' and 'all'"),
    "masks all empty": (all_empty, {"labels": None}, "the masks are all empty"),
    "masks of 255": (truth_of_255, {"labels": None}, "hold the values 255; .*--labels femur=255"),
    "named structures empty": (all_empty, {}, "no mask holds any of femur, tibia"),
    "no masks": (no_predictions, {}, "no image files in it"),
    "no table": (lambda root: remove(root, "metadata.csv"), {}, "no such file; give the table of cases as --metadata"),
    "numbers without bins": (table_of(age=lambda i: str(i)), {"attributes": ["age"]}, "set --bins for it"),
    "on_missing unknown": (nothing, {"on_missing": "drop"}, "give one of stop, skip, zero"),
    "other size": (other_size, {}, r"row 6: .*c4.png: has 24 x 20 pixels .* 20 x 24 \(they are transposed\)"),
    "other value": (other_value, {}, r"row 6: .*c4.png: holds the value 5, which names no structure \(femur=1 tib"),
    "spacing": (table_of(spacing_mm=lambda i: "-1"), {}, "24 problems"),
    "split absent": (nothing, {"split": "test"}, "--split 'test' is not in it; it has no column split"),
    "two files": (two_files, {}, "case 'c4' has 2 files"),
}  # fmt: skip


@pytest.mark.parametrize(("spoil", "options", "message"), REFUSED.values(), ids=REFUSED)
def test_bad_input_is_refused_with_a_sentence(root, spoil, options, message):
    spoil(root)
    options = dict(options)
    inputs = {"truth": root / "truth", "pred": root / "pred", "attributes": ["sex"]}
    inputs |= {name: options.pop(name) for name in inputs.keys() & options.keys()}
    with pytest.raises(InputError, match=message):
        audit.masks(
            metadata=root / "metadata.csv",
            options=audit.MaskOptions(**{"labels": LABELS} | options),
            settings=QUICK,
            **inputs,
        )


def test_paths_of_the_table_are_relative_to_the_masks_or_to_the_table(tmp_path):
    """As `data.folder` reads them; a file's name need not be the case's id then."""
    expected = masks(folder.write(tmp_path / "by_id")).cases
    for name, prefix in (("below", ""), ("beside", "truth/")):
        root = folder.write(tmp_path / name, mask=lambda i, prefix=prefix: f"{prefix}film{i}.png")
        for i in range(folder.CASES):
            (root / "truth" / f"c{i}.png").rename(root / "truth" / f"film{i}.png")
        result = masks(root)
        pd.testing.assert_frame_equal(result.cases, expected)
        assert not [note for note in result.notes if "column mask" in note]


def test_the_tables_own_masks_do_not_stand_in_for_another_readers(tmp_path):
    """The table names masks in `truth`; the predictions are asked for as the truth, by their case ids."""
    root = folder.write(tmp_path, mask=lambda i: f"truth/c{i}.png")
    options = audit.MaskOptions(labels=LABELS)
    result = audit.masks(root / "pred", root / "pred", root / "metadata.csv", ["sex"], options, QUICK)
    assert (result.cases["dice"] == 1).all()
    assert [note for note in result.notes if "column mask is below --truth" in note]


def arrays(root, name, dtype=np.uint8):
    return {
        f"c{i}": np.asarray(Image.open(root / name / f"c{i}.png")).astype(dtype) for i in range(folder.CASES)
    }


def without_paths_and_command(report):
    return json.dumps({**report, "run": {**report["run"], "command": None}}, default=str, sort_keys=True)


@pytest.mark.parametrize("dtype", [np.int64, pytest.param(np.uint8, marks=pytest.mark.slow)])
def test_arrays_give_the_report_of_equal_files(root, dtype):
    files = masks(root, {"a": root / "pred", "b": root / "truth"})
    models = {"a": arrays(root, "pred", dtype), "b": arrays(root, "truth", dtype)}
    frame = pd.read_csv(root / "metadata.csv", dtype=str)
    options = audit.MaskOptions(labels=LABELS)
    result = audit.masks(arrays(root, "truth", dtype), models, frame, ["sex"], options, QUICK)
    pd.testing.assert_frame_equal(result.cases, files.cases)
    assert result.notes == files.notes
    pd.testing.assert_frame_equal(result.mask_faults, files.mask_faults)
    for model, report in files.reports.items():
        assert list(report["run"].pop("inputs")) == ["metadata.csv"]
        assert without_paths_and_command(result.reports[model]) == without_paths_and_command(report)


def test_arrays_of_one_model_and_folders_may_be_mixed(root):
    options = audit.MaskOptions(labels=LABELS)
    result = audit.masks(root / "truth", arrays(root, "pred"), root / "metadata.csv", ["sex"], options, QUICK)
    pd.testing.assert_frame_equal(result.cases, masks(root).cases)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"c4": np.zeros((3, 4, 5), int)}, "--pred: the array of case 'c4' .*integers"),
        ({"c4": np.zeros((20, 24))}, "--pred: the array of case 'c4' .*float64; give integers"),
        ({"c4": np.zeros((24, 20), int)}, "row 6: --pred array of case 'c4': has 24 x 20 pixels"),
        ({"c4": np.full((20, 24), 7)}, "row 6: --pred array of case 'c4': holds the value 7"),
    ],
)
def test_unusable_arrays_are_refused(root, change, message):
    pred = arrays(root, "pred") | change
    with pytest.raises(InputError, match=message):
        masks(root, pred)


@pytest.mark.slow
def test_missing_and_unlisted_arrays_are_treated_as_files(root):
    pred = arrays(root, "pred") | {"stray": np.zeros((20, 24), np.uint8)}
    assert any("1 x prediction (stray" in note for note in masks(root, pred).notes)
    del pred["c5"]
    with pytest.raises(InputError, match=r"--pred \(arrays\): no prediction for 1 of 24 cases \(c5\)"):
        masks(root, pred)
    assert masks(root, pred, on_missing="zero").cases.set_index("case_id").loc["c5", "dice"].eq(0).all()
    with pytest.raises(InputError, match="pred: holds no masks"):
        audit.masks(root / "truth", {}, root / "metadata.csv", ["sex"])
