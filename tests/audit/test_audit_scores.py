import html

import numpy as np
import pandas as pd
import pytest
from fairlearn.metrics import MetricFrame
from scipy import stats

from kneefair_jax import audit, cohort
from kneefair_jax.audit import equivalence_margin, score_table
from kneefair_jax.errors import InputError
from kneefair_jax.fairness import family
from kneefair_jax.fairness.endpoints import EndpointSettings
from kneefair_jax.fairness.patient_table import standardized_means
from kneefair_jax.report import checklist, page
from kneefair_jax.report.csv_tables import escape_formulas
from kneefair_jax.report.text import models, summary
from tests.audit import folder

QUICK = audit.Settings(draws=40, min_group_patients=2)


def wide(**changes):
    """A row per case: `case_id, patient_id, sex, race, dice_femur, dice_tibia, hd95_mm_femur`."""
    rng = np.random.default_rng(0)
    rows = folder.rows_of(
        dice_femur=lambda i: round(rng.uniform(0.8, 1), 3),
        dice_tibia=lambda i: "" if i == 5 else round(rng.uniform(0.7, 1), 3),
        hd95_mm_femur=lambda i: round(rng.uniform(0, 4), 2),
    )
    frame = pd.DataFrame(rows).drop(columns="spacing_mm")
    return frame.assign(**changes)


def long(frame):
    """The same, a row per case and structure."""
    keys = ["case_id", "patient_id", "sex", "race"]
    femur = frame[keys].assign(structure="femur", dice=frame["dice_femur"], hd95_mm=frame["hd95_mm_femur"])
    tibia = frame[keys].assign(structure="tibia", dice=frame["dice_tibia"], hd95_mm="")
    return pd.concat([femur, tibia])


def save(frame, path):
    frame.to_csv(path, index=False)
    return path


def table(path, attributes=("sex",), *, metadata=None, settings=QUICK, **options):
    return audit.table(
        path, attributes, metadata=metadata, options=audit.CaseOptions(**options), settings=settings
    )


def test_wide_and_long_tables_are_the_same_by_hand(tmp_path):
    one = table(save(wide(), tmp_path / "wide.csv"))
    two = table(save(long(wide()), tmp_path / "long.csv"))
    pd.testing.assert_frame_equal(one.cases, two.cases)
    assert one.report["scores"] == two.report["scores"]
    assert one.report["cohort"]["structures"] == ["femur", "tibia"]
    frame = wide()
    frame["dice_tibia"] = pd.to_numeric(frame["dice_tibia"])
    scores = frame[["dice_femur", "dice_tibia"]].to_numpy(float)  # c5 has a femur alone
    macro = pd.Series(standardized_means(scores, scores >= 0.5))
    by_patient = macro.groupby([frame["sex"], frame["patient_id"]]).mean()
    for sex, mean in by_patient.groupby("sex").mean().items():
        assert one.report["scores"]["dice"]["groups"][f"sex={sex}"]["mean"] == pytest.approx(mean)
    assert one.report["run"]["absent"] == {"tibia": 1}
    femur = one.cases[one.cases["structure"] == "femur"].set_index("case_id")["hd95_mm"]
    assert femur["c3"] == frame.loc[3, "hd95_mm_femur"]
    assert one.cases.loc[one.cases["structure"] == "tibia", "hd95_mm"].isna().all()


def test_one_column_of_dice_and_a_table_of_attributes(tmp_path):
    scores = wide()[["case_id"]].assign(dice=np.linspace(0.8, 0.9, folder.CASES))
    folder.write_table(tmp_path / "metadata.csv", folder.rows_of())
    result = table(save(scores, tmp_path / "s.csv"), metadata=tmp_path / "metadata.csv")
    assert result.report["cohort"]["structures"] == ["all structures"]
    assert result.report["scores"]["dice"]["overall"]["patients"] == 12
    with pytest.raises(InputError, match=r"4 of 24 cases \(c20, c21, c22, c23\).*--on-missing skip"):
        table(save(scores[:20], tmp_path / "s.csv"), metadata=tmp_path / "metadata.csv")
    fewer = table(tmp_path / "s.csv", metadata=tmp_path / "metadata.csv", on_missing="skip")
    assert fewer.report["scores"]["dice"]["overall"]["cases"] == 20
    assert "No scores for 4 of 24 cases (such as c20): excluded." in fewer.notes
    assert fewer.excluded["case_id"].tolist() == [f"c{i}" for i in range(20, 24)]
    flow = fewer.report["cohort"]["flow"]
    assert flow["excluded"] == [{"reason": "no scores", "records": 4}] and flow["listed"] == 24
    folder.write_table(tmp_path / "metadata.csv", folder.rows_of()[:12])
    with pytest.raises(InputError, match=r"8 cases \(c12, .*\) not in"):
        table(tmp_path / "s.csv", metadata=tmp_path / "metadata.csv")


def test_what_is_skipped_for_one_model_is_skipped_for_all(tmp_path):
    """Of b, the rows of c3 and c20 are absent, of a, that of c3: c3 has none, so `metadata.csv` lists it."""
    folder.write_table(tmp_path / "metadata.csv", folder.rows_of())
    frame = wide().drop(columns=["patient_id", "sex", "race"])
    a, b = frame.drop(index=3).assign(model="a"), frame.drop(index=[3, 20]).assign(model="b")
    path, cases = save(pd.concat([a, b]), tmp_path / "s.csv"), tmp_path / "metadata.csv"
    result = table(path, metadata=cases, on_missing="skip")
    for model, rows in result.cases.groupby("model"):
        assert set(rows["case_id"]) == {f"c{i}" for i in range(24)} - {"c3", "c20"}, model
    assert result.excluded[["case_id", "mask", "reason"]].to_numpy().tolist() == [
        ["c3", "a", "no scores"],
        ["c3", "b", "no scores"],
        ["c20", "b", "no scores"],
    ]
    for report in result.reports.values():
        flow = report["cohort"]["flow"]
        assert flow["excluded"] == [
            {"reason": "no scores by a (1) and b (2), 1 of them by several", "records": 2}
        ]
        assert (flow["listed"], flow["tested"]["cases"]) == (24, 22)
    excluded, by_group = summary.data_warnings(result.report)
    assert "2 of 24 cases are excluded" in excluded
    assert "female 1 of 12" in by_group and "male 1 of 12" in by_group
    without = table(
        save(pd.concat([a, b])[lambda rows: rows["case_id"] != "c20"], path),
        on_missing="stop",
        metadata=save(pd.read_csv(cases).drop(index=[3, 20]), tmp_path / "fewer.csv"),
    )
    assert result.report["scores"] == without.report["scores"]
    with pytest.raises(InputError, match="no case has scores by every model"):
        table(save(pd.concat([a[:10], b[10:]]), path), metadata=cases, on_missing="skip")


def test_cases_without_dice_are_not_tested_in_flow_checklist_page_and_list(tmp_path):
    """By a, c0 and c12 of patient p0, and c1, one of two of p1, have no Dice; c3 fails by both."""
    frame = wide().assign(patient_id=[f"p{i % 12}" for i in range(24)])
    frame.loc[3, "dice_femur"] = 0.1
    scores = ["dice_femur", "dice_tibia", "hd95_mm_femur"]
    a = frame.assign(model="a").astype({name: object for name in scores})
    a.loc[[0, 1, 12], scores] = ""
    result = table(save(pd.concat([a, frame.assign(model="b")]), tmp_path / "s.csv"))
    assert result.excluded[["case_id", "mask"]].to_numpy().tolist() == [
        ["c0", "a"],
        ["c1", "a"],
        ["c12", "a"],
    ]
    expected = {
        "a": ({"cases": 21, "patients": 11}, {"cases": 3, "patients": 1}),
        "b": ({"cases": 24, "patients": 12}, {"cases": 0, "patients": 0}),
    }
    for model, (tested, not_scored) in expected.items():
        report = result.reports[model]
        flow = report["cohort"]["flow"]
        assert (flow["listed"], flow["cohort"]["cases"]) == (24, 24)
        assert (flow["tested"], flow["not_scored"]) == (tested, not_scored)
        assert (flow["failed"], flow["without_failure"]) == (1, tested["patients"] - 1)
        assert report["rates"]["endpoints"]["failure"]["overall"]["n"] == tested["patients"]
        assert report["scores"]["dice"]["overall"]["cases"] == tested["cases"]
        warning, *by_group = summary.data_warnings(report)
        assert warning.startswith("3 of 24 cases have no Dice by a")
        assert ["male 2 of 12, female 1 of 12" in text for text in by_group] == [True] * (model == "a")
        values = {(item.guideline, item.number): item.value for item in checklist.items(page.plain(report))}
        assert ("excluded: 3 records" in values["CLAIM 2024", "35"]) == (model == "a")
        assert (
            f"{tested['cases']} cases of {tested['patients']} patients tested" in values["TRIPOD+AI", "20a"]
        )
    counts = models.patients(result.report)
    assert "a 11 and b 12" in counts and "(b 11)" in counts
    assert counts in html.unescape(result.write(tmp_path / "out")["a"].read_text())
    even = table(save(pd.concat([frame.assign(model=name) for name in "ab"]), tmp_path / "even.csv"))
    assert models.patients(even.report) == "" and summary.data_warnings(even.report) == []


def test_zero_is_accepted_where_no_case_is_missing(tmp_path):
    path = save(wide(), tmp_path / "s.csv")
    assert table(path, on_missing="zero").report["scores"] == table(path).report["scores"]


def test_what_an_audit_of_masks_wrote_can_be_audited(tmp_path):
    """The parquet gives the same report, levels in their order; so does the CSV, but for that order."""
    folder.write(tmp_path, age=lambda i: str(40 + i // 4 * 5))
    pred = {"a": tmp_path / "pred", "b": tmp_path / "truth"}
    options = audit.MaskOptions(labels={"femur": 1, "tibia": 2}, bins={"age": [50, 60]})
    audited = audit.masks(tmp_path / "truth", pred, tmp_path / "metadata.csv", ["sex", "age"], options, QUICK)
    audited.cases.to_parquet(tmp_path / "cases.parquet")
    again = table(tmp_path / "cases.parquet", ["sex", "age"])
    for model, report in audited.reports.items():
        for score in ("dice", "iou"):  # what size alone gives, the masks alone tell
            for by_attribute in report["scores"][score]["summaries"].values():
                by_attribute["ser"] |= {"size": None, "beyond_size": None}
        assert again.reports[model]["scores"] == report["scores"]
    assert again.report["models"] == audited.report["models"]
    text = table(save(escape_formulas(audited.cases), tmp_path / "cases.csv"), ["sex", "age"])
    assert text.report["scores"]["dice"]["groups"] == audited.report["scores"]["dice"]["groups"]


def test_averages_of_the_table_do_not_count_as_structures(tmp_path):
    plain = table(save(wide(), tmp_path / "a.csv"))
    more = table(save(wide(dice_mean=0.5), tmp_path / "b.csv"))
    assert more.report["scores"] == plain.report["scores"]
    assert "averages (mean in 24 rows) are excluded" in more.notes[0]


@pytest.mark.parametrize(
    "name",
    [
        *("background", "0", "all", "Mean", "std", "sd", "min", "MAX", "median", "total", "Foreground"),
        *("average", "overall", "macro"),
    ],
)
def test_the_gap_is_that_of_the_structures_alone(name, tmp_path):
    """By hand, in both shapes: femur and tibia differ by sex by .08 and .044, the bone's gap is .062."""
    frame = wide()[["case_id", "sex"]]
    male = frame["sex"] == "male"
    frame = frame.assign(dice_femur=np.where(male, 0.9, 0.82), dice_tibia=np.where(male, 0.9, 0.856))
    extra = {f"dice_{name}": 0.99}
    one = score_table.read(
        save(frame.assign(**extra), tmp_path / "wide.csv"), None, ["sex"], audit.CaseOptions()
    )
    rows = [
        frame[["case_id", "sex"]].assign(structure=column.removeprefix("dice_"), dice=values)
        for column, values in frame.assign(**extra).items()
        if column.startswith("dice_")
    ]
    two = score_table.read(save(pd.concat(rows), tmp_path / "long.csv"), None, ["sex"], audit.CaseOptions())
    for scores in (one, two):
        assert scores.structures == ("femur", "tibia")
        means = scores.tables[""].groupby("sex", observed=True)["dice"].mean()
        assert means["male"] - means["female"] == pytest.approx(0.062)
        assert sum(f"{name} in {len(frame)} rows" in note for note in scores.cohort.notes) == 1


def test_a_table_without_a_structure_is_refused(tmp_path):
    frame = wide()[["case_id", "sex"]]
    with pytest.raises(InputError, match="mean, background; add a column for each structure"):
        table(save(frame.assign(dice_mean=0.9, dice_background=1), tmp_path / "wide.csv"))
    with pytest.raises(InputError, match="Mean; add the scores by structure"):
        table(save(frame.assign(structure="Mean", dice=0.9), tmp_path / "long.csv"))


def test_a_score_without_a_structure_is_left_out_beside_structures_with_a_note(tmp_path):
    plain = table(save(wide(), tmp_path / "a.csv"))
    more = table(save(wide(dice=0.5), tmp_path / "b.csv"))
    assert more.report["scores"] == plain.report["scores"]
    assert any("(dice)" in note for note in more.notes)


def test_cases_without_a_row_for_a_structure_are_noted(tmp_path):
    frame = long(wide())
    frame = frame[~((frame["structure"] == "femur") & (frame["case_id"] == "c2"))]
    result = table(save(frame, tmp_path / "a.csv"))
    assert "Femur has no row for 1 case (c2): excluded." in result.notes


def test_an_overlap_without_a_distance_is_noted_on_terminal_and_page(tmp_path):
    """A missed femur has Dice 0 and no distance; a tibia absent from both has neither."""
    frame = wide(hd95_mm_tibia=["" if i == 5 else 1.0 for i in range(folder.CASES)])
    assert not any("overlap" in note for note in table(save(frame, tmp_path / "a.csv")).notes)
    frame.loc[[3, 7], "dice_femur"] = 0
    frame.loc[[3, 7], "hd95_mm_femur"] = np.nan
    result = table(save(frame, tmp_path / "a.csv"))
    (note,) = [n for n in result.notes if "overlap" in n]  # assd_mm is empty in every row
    assert note.startswith("2 rows have an overlap but no hd95_mm (such as case c3, femur)")
    assert note in result.report["cohort"]["notes"]
    assert result.report["run"]["absent"] == {"tibia": 1}
    result.write(tmp_path / "out")
    assert note in (tmp_path / "out" / "index.html").read_text()
    both = pd.concat([wide(model="a", hd95_mm_tibia=1), frame.assign(model="b").drop(index=7)])
    both = pd.concat([both, wide(model="b")[7:8]]).fillna({"hd95_mm_tibia": 1})
    (note,) = [n for n in table(save(both, tmp_path / "b.csv")).notes if "overlap" in n]
    assert note.startswith("1 row by b has an overlap but no hd95_mm (case c3, femur)")


def test_a_table_is_guarded_in_texts_levels_and_names_and_keeps_its_numbers():
    frame = pd.DataFrame({"=a": ["\nx", "ok"], "n": [-1, 2], "sex": pd.Categorical(["+b", "c"])})
    expected = {"'=a": ["'\nx", "ok"], "n": [-1, 2], "sex": ["'+b", "c"]}
    assert escape_formulas(frame).to_dict("list") == expected
    counts = cohort.table(frame.assign(case_id=["0", "1"], patient_id=["0", "1"]), ("sex",)).reset_index()
    assert set(escape_formulas(counts)["group"]) == {"all", "sex=+b", "sex=c"}


def formula(result):
    return result.report["model"]["dice"]["formula"]


def test_confounders_are_adjusted_for_and_are_no_attributes(tmp_path):
    """From the score table, or from that of attributes; numbers are linear, a site's numbers are not."""
    about = {
        "Age": np.arange(40, 64),
        "site": [1, 2, 2, 1] * 6,
        "weight": 70,
        "patient_id": wide()["case_id"],
    }
    one = table(save(wide(**about), tmp_path / "a.csv"))
    assert formula(one) == "dice ~ sex + Age + site"
    model = one.report["model"]["dice"]
    assert [term["term"] for term in model["with_mediators"]["terms"]] == [
        *("intercept", "sex=male", "Age", "site=2")
    ]
    assert one.report["cohort"]["attributes"] == ["sex"]
    assert not {"Age", "site"} & set(one.cases)
    who = save(
        wide(age=about["Age"], **about)[["case_id", "patient_id", "sex", "age"]][::-1], tmp_path / "who.csv"
    )
    scores = wide(**about).drop(columns=["sex", "patient_id"])
    two = table(save(scores, tmp_path / "b.csv"), metadata=who)
    assert formula(two) == "dice ~ sex + age + site"
    for a, b in zip(*(r.report["model"]["dice"]["with_mediators"]["terms"] for r in (one, two)), strict=True):
        assert a["estimate"] == pytest.approx(b["estimate"], abs=1e-6)
    binned = table(tmp_path / "a.csv", ["sex", "Age"], bins={"Age": [50]})
    assert formula(binned) == "dice ~ sex + Age + site"
    assert "Age=<=50" in binned.report["model"]["dice"]["references"]
    # The OAI's own name for it: beside its bins, no number either.
    renamed = save(wide(**about, V00AGE=about["Age"]), tmp_path / "c.csv")
    assert formula(table(renamed, ["V00AGE"], bins={"V00AGE": [50]})) == "dice ~ V00AGE + site"


def test_impossible_ages_and_words_for_scores_are_noted(tmp_path):
    frame = wide(age=[-3, 999, 120, 0, "", 80, *range(40, 58)])
    frame["dice_tibia"] = frame["dice_tibia"].astype(object)
    frame.loc[[2, 7], "dice_tibia"] = ["n/a", "NaN"]
    result = table(save(frame, tmp_path / "a.csv"))
    (note,) = [note for note in result.notes if note.startswith("2 of 24 rows")]
    assert "below 0 or above 120" in note and "c0: -3, c1: 999" in note
    assert [note for note in result.notes if "read as" in note] == [
        "2 rows have 'n/a' for dice_tibia (such as case c2): read as an empty cell, of a structure absent from truth "
        "and prediction."
    ]
    assert result.report["run"]["absent"] == {"tibia": 3}  # that of c5 is an empty cell, and not noted


def test_an_age_that_is_no_number_is_refused_and_a_confounder_of_rows_is_noted(tmp_path):
    frame = wide(age=["80+", *range(41, 64)], kl=["mild", "severe"] * 12, patient_id=wide()["case_id"])
    with pytest.raises(InputError, match=r"a.csv row 2: age '80\+' is not a number.*--attributes"):
        table(save(frame, tmp_path / "a.csv"), ["race"])
    frame.loc[0, "age"] = ""
    result = table(save(frame, tmp_path / "a.csv"), ["race"])
    assert result.report["model"]["dice"]["with_mediators"]["cases"] == 23
    assert formula(result) == "dice ~ race + age + kl"
    rows = long(wide()).assign(site=lambda f: f["structure"])
    result = table(save(rows, tmp_path / "b.csv"))
    assert formula(result) == "dice ~ sex"
    assert any("does not adjust for site, which differs between the rows" in note for note in result.notes)


@pytest.mark.parametrize("where", ["scores", "scores beside metadata", "metadata"])
@pytest.mark.parametrize("form", ["years", "dicom", "dates"])
def test_ages_are_years_in_every_form_and_table(where, form, tmp_path):
    """The covariate of the model; 41 in each form."""
    years = np.arange(41, 41 + folder.CASES)
    ages = {
        "years": {"age": years},
        "dicom": {"age": [f"{year:03d}Y" for year in years]},
        "dates": {"age": [f"{2026 - year}-03-01" for year in years], "study_date": "2026-03-01"},
    }[form]
    frame = wide(patient_id=wide()["case_id"])
    who = ["case_id", "patient_id", "sex"]
    scores = frame if where == "metadata" else frame.assign(**ages)
    people = frame.assign(**ages)[[*who, *ages]] if where == "metadata" else frame[who]
    beside = None if where == "scores" else save(people, tmp_path / "metadata.csv")
    read = score_table.read(save(scores, tmp_path / "scores.csv"), beside, ["sex"], audit.CaseOptions())
    np.testing.assert_array_equal(read.cohort.confounders["age"], years)
    assert sum("years" in note for note in read.cohort.notes) == (form != "years")


def test_an_attribute_age_may_be_computed_from_two_dates(tmp_path):
    frame = wide(DOB=[f"{1955 + i}-06-01" for i in range(folder.CASES)], StudyDate="20260531")
    read = score_table.read(
        save(frame, tmp_path / "a.csv"), None, ["age"], audit.CaseOptions(bins={"age": [50, 60]})
    )
    # 70 years in c0 (the birthday is a day later), one less each: 60 in c10, 50 in c20.
    assert read.cohort.frame["age"].value_counts(sort=False).to_dict() == {"<=50": 4, "51-60": 10, ">=61": 10}
    with pytest.raises(InputError, match="row 2: DOB '1955-06-01' is a date of birth"):
        score_table.read(
            save(frame.drop(columns="StudyDate"), tmp_path / "a.csv"),
            None,
            ["age"],
            audit.CaseOptions(bins={"age": [50, 60]}),
        )


def test_notes_keep_the_names_of_files(tmp_path):
    result = table(save(wide().drop(columns="patient_id"), tmp_path / "mine.csv"))
    assert result.notes[0].startswith("mine.csv has no column patient_id")
    renamed = table(save(wide().rename(columns={"patient_id": "PatientID"}), tmp_path / "mine.csv"))
    assert "'PatientID'" not in result.notes[0] and "'PatientID'" in renamed.notes[0]


@pytest.mark.parametrize("attributes", [["sex"], ["sex", "race"]], ids=["one", "two"])
@pytest.mark.parametrize("structure", [None, "tibia"])
def test_fairlearn_has_our_group_means(tmp_path, attributes, structure):
    result = table(save(wide(), tmp_path / "a.csv"), ["sex", "race"])
    frame = result.metric_frame(attributes, "dice", structure=structure)
    assert isinstance(frame, MetricFrame)
    block = result.report["scores"]["dice"]
    block = block["structures"][structure] if structure else block
    assert frame.overall["dice"] == pytest.approx(block["overall"]["mean"])
    for levels, mean in frame.by_group["dice"].items():
        levels = levels if isinstance(levels, tuple) else (levels,)
        name = ",".join(f"{a}={level}" for a, level in zip(attributes, levels, strict=True))
        assert mean == pytest.approx(block["groups"][name]["mean"])
    if len(attributes) == 1:
        gap = block["summaries"]["sex"]["gap"]["value"]
        assert frame.difference(method="between_groups")["dice"] == pytest.approx(gap)


def test_fairlearn_s_means_follow_the_failure_threshold(tmp_path):
    """What a missing tibia would score follows from cases above the threshold: its order of groups may turn."""
    frame = wide(dice_tibia=["", 0.75, 0.95, 0.9, 0.5, "", 0.95, 0.6] * 3)
    strict = QUICK._replace(endpoints=EndpointSettings(0.8, ()))
    means = []
    for settings in (QUICK, strict):
        result = table(save(frame, tmp_path / "a.csv"), settings=settings)
        in_report = {
            sex: result.report["scores"]["dice"]["groups"][f"sex={sex}"]["mean"] for sex in ("female", "male")
        }
        assert result.metric_frame("sex").by_group["dice"].to_dict() == pytest.approx(in_report)
        means.append(in_report["male"])
    assert abs(means[0] - means[1]) > 0.01


def test_fairlearn_s_gap_is_that_of_the_ranked_groups(tmp_path):
    """84 patients, 4 of race C with a Dice of 0.6: the gap of A and B is 0.01."""
    race = np.repeat(["A", "B", "C"], [40, 40, 4])
    dice = pd.Series(race).map({"A": 0.95, "B": 0.94, "C": 0.6}) + 0.001 * (-1.0) ** np.arange(84)
    rows = pd.DataFrame({"case_id": [f"c{i}" for i in range(84)], "race": race, "dice_femur": dice})
    result = table(save(rows, tmp_path / "a.csv"), ["race"], settings=audit.Settings(draws=40))
    assert result.report["scores"]["dice"]["summaries"]["race"]["gap"]["value"] == pytest.approx(0.01)
    frame = result.metric_frame("race")
    assert list(frame.by_group.index) == ["A", "B"] and frame.difference()["dice"] == pytest.approx(0.01)
    every = result.metric_frame("race", include_small=True)
    assert every.difference()["dice"] == pytest.approx(0.35)
    few = rows[-8:].assign(race=[*"DEDEDEDE"])
    small = table(save(few, tmp_path / "b.csv"), ["race"], settings=audit.Settings(draws=40))
    with pytest.raises(InputError, match="include_small"):
        small.metric_frame("race")


@pytest.mark.parametrize("shape", ["wide", "long"])
def test_what_is_no_structure_changes_no_score(shape, tmp_path):
    names = ("0_background", "mDice", "SD(dice)", "femur_std", "25%", "mean (all)")
    frame = wide(**{f"dice_{name}": 0.995 for name in names})
    if shape == "long":
        extra = wide()[["case_id", "patient_id", "sex", "race"]].assign(dice=0.995, hd95_mm="")
        frame = pd.concat([long(wide()), *(extra.assign(structure=name) for name in names)])
    expected = score_table.read(save(wide(), tmp_path / "a.csv"), None, ["sex"], audit.CaseOptions())
    result = score_table.read(save(frame, tmp_path / "b.csv"), None, ["sex"], audit.CaseOptions())
    assert result.structures == ("femur", "tibia")
    pd.testing.assert_frame_equal(result.tables[""], expected.tables[""])
    notes = " ".join(result.cohort.notes)
    assert all(f"{name} in 24 rows" in notes for name in names)


@pytest.mark.parametrize("beside", [False, True], ids=["scores alone", "metadata"])
def test_cases_of_other_splits_count_as_excluded(beside, tmp_path):
    who = ["case_id", "patient_id", "sex", "split"]
    rows = long(wide()).merge(wide(split=["test"] * 16 + ["train"] * 8)[["case_id", "split"]])
    people = save(rows.drop_duplicates("case_id")[who], tmp_path / "who.csv") if beside else None
    scores = rows.drop(columns=["patient_id", "sex"]) if beside else rows
    cohort = score_table.read(
        save(scores, tmp_path / "a.csv"), people, ["sex"], audit.CaseOptions(split="test")
    ).cohort
    assert len(cohort.frame) == 16
    assert [(entry.case_id, entry.reason) for entry in cohort.excluded] == [
        (f"c{i}", "another split") for i in range(16, 24)
    ]


def test_metric_frame_refuses_what_is_not_there(tmp_path, monkeypatch):
    result = table(save(wide(), tmp_path / "a.csv"))
    with pytest.raises(InputError, match="'age' is none of"):
        result.metric_frame("age")
    with pytest.raises(InputError, match="no dice of structure 'patella'"):
        result.metric_frame("sex", structure="patella")
    monkeypatch.setitem(__import__("sys").modules, "fairlearn.metrics", None)
    with pytest.raises(InputError, match="pip install fairlearn"):
        result.metric_frame("sex")


def readers(first, second, cases=12):
    """Two readers' femur and tibia of cases, two a patient; c0 and c2 are one patient's, c1 and c3 another's."""
    frame = wide()[:cases][["case_id"]]
    one = frame.assign(reader="A", dice_femur=0.9, dice_tibia=0.8)
    return pd.concat([one.assign(**first), one.assign(reader="B", **second)])


def test_readers_who_agree_in_the_mean_give_no_margin(tmp_path):
    """Reader A minus B, macro, of six patients: .02 (of .01 and .03), -.01, .02, -.02, .03, -.02; mean .02 / 6."""
    by_case = np.array([0.01, -0.02, 0.03, 0, 0.04, -0.04, 0, 0, 0.03, -0.01, 0.03, -0.03])
    frame = readers({}, {"dice_femur": 0.9 - 2 * by_case})
    path, scores = save(frame, tmp_path / "readers.csv"), save(wide(), tmp_path / "a.csv")
    result = table(scores, readers=path)
    assert result.report["run"]["delta"] is None
    differences = [0.02, -0.01, 0.02, -0.02, 0.03, -0.02]
    mean, spread = np.mean(differences), np.std(differences, ddof=1)
    interval = stats.ttest_1samp(differences, 0).confidence_interval()
    agreement = result.report["readers"]["dice"]
    assert agreement["patients"] == 6 and agreement["mean_difference"] == pytest.approx(0.02 / 6)
    assert agreement["interval"] == pytest.approx((interval.low, interval.high))
    assert agreement["limits_of_agreement"] == pytest.approx((mean - 1.96 * spread, mean + 1.96 * spread))
    (note,) = [note for note in result.notes if "--equivalence-margin dice=MARGIN" in note]
    assert f"{interval.high:.4f}]" in note
    page = result.write(tmp_path / "out")[""].read_text()
    assert "one with --equivalence-margin dice=MARGIN" in page

    with_one = save(frame[:-1], path)  # of c11, a reader is absent: its patient's difference is that of c9
    agreement = table(scores, readers=with_one).report["readers"]["dice"]
    assert agreement["mean_difference"] == pytest.approx(0.03 / 6)


@pytest.mark.parametrize("threshold", [0.5, 0.8])
def test_readers_macro_scores_follow_the_failure_threshold(threshold, tmp_path):
    """Reader A has no tibia in c0; what it would score follows from A's cases above the threshold."""
    tibia = np.array([np.nan, 0.75, 0.9, 0.85, 0.7, 0.95, 0.9, 0.72, 0.88, 0.93, 0.78, 0.86])
    femur = np.linspace(0.9, 0.98, 12)
    path = save(readers({"dice_femur": femur, "dice_tibia": tibia}, {}), tmp_path / "readers.csv")
    scores = np.stack([femur, tibia], axis=1)
    differences = standardized_means(scores, scores >= threshold) - 0.85
    expected = pd.Series(differences).groupby(wide()["patient_id"][:12]).mean().mean()
    cohort = score_table.read(save(wide(), tmp_path / "a.csv"), None, ["sex"], audit.CaseOptions()).cohort
    agreement = equivalence_margin.of_readers(path, cohort, {}, None, failure_dice=threshold)["dice"]
    assert agreement.mean_difference == pytest.approx(expected, abs=1e-12)


def test_readers_who_differ_give_the_near_end_of_the_interval(tmp_path):
    by_case = np.array([0.05, 0.06, 0.05, 0.07, 0.06, 0.05, 0.04, 0.06, 0.05, 0.06, 0.07, 0.05])
    frame = readers({}, {"dice_femur": 0.9 - 2 * by_case})
    path, scores = save(frame, tmp_path / "readers.csv"), save(wide(), tmp_path / "a.csv")
    result = table(scores, readers=path)
    by_patient = by_case.reshape(3, 2, 2).mean(1).ravel()  # c0 and c2 are one patient's
    interval = stats.ttest_1samp(by_patient, 0).confidence_interval()
    assert result.report["run"]["delta"] == pytest.approx({"dice": interval.low})
    page = result.write(tmp_path / "out")[""].read_text()
    assert f"{by_patient.mean() + 1.96 * by_patient.std(ddof=1):.4f}" in page


def test_readers_who_always_differ_and_a_stated_margin(tmp_path):
    scores = save(wide(), tmp_path / "a.csv")
    frame = readers({"hd95_mm_femur": 1.0}, {"dice_femur": 0.92, "hd95_mm_femur": 2.5})
    path = save(frame, tmp_path / "far.csv")
    result = table(scores, readers=path)
    (note,) = [note for note in result.notes if "two readers" in note]
    assert note.endswith(": ±0.010 in Dice and ±1.500 mm in HD95.")
    assert not any("--equivalence-margin" in note for note in result.notes)
    assert result.report["readers"]["hd95_mm"]["mean_difference"] == -1.5
    stated = table(scores, readers=path, settings=QUICK._replace(equivalence_margin={"dice": 0.05}))
    assert stated.report["run"]["delta"] == {"dice": 0.05, "hd95_mm": 1.5}
    assert stated.report["readers"]["dice"]["margin"] == pytest.approx(0.01)
    none = table(scores).report
    assert none["run"]["delta"] is None and "readers" not in none


def test_readers_masks_are_scored_against_the_truth(tmp_path):
    """Reader A draws the truth, B a prediction: their mean difference is 1 minus its score."""
    folder.write(tmp_path)
    rows = [
        {"case_id": f"c{i}", "reader": reader, "mask": f"{where}/c{i}.png"}
        for reader, where in (("A", "truth"), ("B", "pred"))
        for i in range(folder.CASES)
    ]
    folder.write_table(tmp_path / "readers.csv", rows)
    options = audit.MaskOptions(labels={"femur": 1, "tibia": 2}, readers=tmp_path / "readers.csv")
    inputs = tmp_path / "truth", tmp_path / "pred", tmp_path / "metadata.csv", ["sex"], options, QUICK
    report = audit.masks(*inputs).report
    delta = report["run"]["delta"]
    agreement = report["readers"]["dice"]
    assert agreement["mean_difference"] == pytest.approx(1 - report["scores"]["dice"]["overall"]["mean"])
    assert delta["dice"] == agreement["interval"][0] > 0
    assert set(delta) == {"dice", "iou", "hd95_mm", "assd_mm", "nsd"}
    folder.write_table(tmp_path / "readers.csv", [*rows[:-1], rows[-1] | {"mask": "pred/none.png"}])
    with pytest.raises(InputError, match=r"row 49: mask .*none.png: no such file"):
        audit.masks(*inputs)


def spoilt(**columns):
    return lambda: wide(**columns)


REFUSED = {
    "above one": (spoilt(dice_femur=[250.0] * 24), {}, "row 2: dice 250.0 is above 1; correct it"),
    "above one in one cell": (
        spoilt(dice_femur=[0.95] * 23 + [1.2]),
        {},
        r"^[^\n]* row 25: dice 1.2 is above 1; correct it$",
    ),
    "attribute absent": (spoilt(), {"attributes": ["age"]}, "there are: sex, race"),
    "models under another name": (
        lambda: pd.concat([wide().assign(Vendor=name) for name in "AB"]),
        {},
        r"^[^\n]*no column 'model'; rename 'Vendor' to 'model' if[^\n]*$",
    ),
    "models under another name, a row each structure": (
        lambda: pd.concat([long(wide()).assign(AI=name, software=1) for name in "AB"]),
        {},
        r"^[^\n]*rename 'AI' to 'model' if[^\n]*$",
    ),
    "case twice": (lambda: pd.concat([wide(), wide()[:1]]), {}, "row 26: case_id 'c0' has 'femur' twice"),
    "differing attribute": (
        lambda: long(wide()).assign(sex=["female"] * 24 + ["male"] * 24),
        {},
        r"rows of case 'c0' differ in sex \('female', 'male'\)",
    ),
    "empty": (spoilt(dice_femur="", dice_tibia=""), {}, "dice is empty in every row"),
    "empty by a model": (
        lambda: pd.concat([wide(model="a"), wide(model="b", dice_femur="", dice_tibia="")]),
        {},
        "dice by b is empty in every row",
    ),
    "empty but for a case without scores by another model": (
        lambda: pd.concat(
            [wide(model="a")[1:], wide(model="b", dice_femur=[0.9, *[""] * 23], dice_tibia="")]
        ),
        {"on_missing": "skip"},
        "dice by b is empty in every row",
    ),
    "infinite": (
        spoilt(hd95_mm_femur=["1"] * 23 + ["inf"]),
        {},
        "row 25: hd95_mm 'inf' is not a finite number",
    ),
    "model lacks a case": (
        lambda: pd.concat([wide(model="a"), wide(model="b")[:20]]),
        {},
        r"by b for 4 of 24 cases \(c20, c21, c22, c23\).*--on-missing skip",
    ),
    "negative": (spoilt(dice_tibia=[-0.1] * 24), {}, "row 2: dice -0.1 is negative"),
    "no case_id": (lambda: wide().rename(columns={"case_id": "file"}), {}, "column 'case_id' is missing"),
    "Case ID": (lambda: wide().rename(columns={"case_id": "Case ID"}), {}, "did you mean 'Case ID'"),
    "Femur Dice": (
        lambda: wide()[["case_id", "sex"]].assign(**{"Femur Dice": "0.9"}),
        {},
        "rename 'Femur Dice' to 'dice_femur'",
    ),
    "no scores": (lambda: wide()[["case_id", "sex"]], {}, "has no scores; name them"),
    "percent": (
        spoilt(dice_tibia=np.arange(77, 101)),
        {},
        "row 2: dice 77 is above 1; looks like percent; divide",
    ),
    "several splits": (
        spoilt(split=["train", "test"] * 12),
        {},
        "holds the splits test, train; choose one with",
    ),
    "words": (spoilt(dice_femur=["0.9"] * 23 + ["good"]), {}, "row 25: dice 'good' is not a finite number"),
    "zero": (
        lambda: pd.concat([wide(model="a"), wide(model="b")[:23]]),
        {"on_missing": "zero"},
        r"by b for 1 of 24 cases \(c23\); --on-missing zero needs .*masks.*dice 0",
    ),
}


@pytest.mark.parametrize(("make", "options", "message"), REFUSED.values(), ids=REFUSED)
def test_bad_tables_are_refused_with_a_sentence(tmp_path, make, options, message):
    with pytest.raises(InputError, match=message):
        table(save(make(), tmp_path / "scores.csv"), **options)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"reader": "A"}, "has 1 readers"),
        (
            {"dice_femur": 0.9, "dice_tibia": 0.8},
            "the same dice in every patient; state a margin with --equivalence-margin",
        ),
        ({"case_id": "elsewhere"}, "has none of the audited cases"),
        ({"mask": "a.png"}, "an audit of scores has no truth"),
    ],
)
def test_bad_readers_are_refused_with_a_sentence(tmp_path, change, message):
    frame = readers({}, {"dice_femur": 0.92}).assign(**change)
    with pytest.raises(InputError, match=message):
        table(save(wide(), tmp_path / "a.csv"), readers=save(frame, tmp_path / "readers.csv"))


def test_readers_of_too_few_patients_are_refused(tmp_path):
    path = save(readers({}, {"dice_femur": 0.92}, cases=8), tmp_path / "readers.csv")
    with pytest.raises(
        InputError, match="in 4 of the audited patients, and a margin needs 5; state a margin with"
    ):
        table(save(wide(), tmp_path / "a.csv"), readers=path)


def test_a_margin_of_another_score_than_the_primary_one_is_noted():
    table = wide(hd95_mm_femur=np.linspace(1, 3, 24), hd95_mm_tibia=np.linspace(2, 1, 24))
    primary = family.Primary("hd95_mm")
    for score, is_noted in (("dice", True), ("hd95_mm", False)):
        settings = QUICK._replace(equivalence_margin={score: 0.02}, primary=primary)
        notes = audit.table(table, ["sex"], settings=settings).notes
        assert any("equivalence margin is for dice" in note for note in notes) == is_noted
