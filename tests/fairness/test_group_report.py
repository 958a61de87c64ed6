"""`GroupReport` against `audit.table` on the same scores, against means by hand, and its refusals."""

import html

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from kneefair_jax import audit, fairness
from kneefair_jax.errors import InputError
from kneefair_jax.report import page

PATIENTS = 40
DRAWS = 400


def wide(rng):
    sex = np.array(["female", "male"] * (PATIENTS // 2))
    return pd.DataFrame(
        {
            "case_id": [f"k{k:03d}" for k in range(2 * PATIENTS)],
            "subject": np.repeat([f"p{k}" for k in range(PATIENTS)], 2),
            "sex": np.repeat(sex, 2),
            "race": np.repeat(rng.choice(["A", "B"], PATIENTS), 2),
            "dice_femur": rng.beta(30, 2, 2 * PATIENTS),
            "dice_tibia": rng.beta(30, 2, 2 * PATIENTS) - 0.05 * np.repeat(sex == "male", 2),
            "hd95_mm_femur": rng.gamma(2, 1, 2 * PATIENTS),
        }
    )


@pytest.fixture(scope="module")
def frame():
    return wide(np.random.default_rng(0))


@pytest.fixture(scope="module")
def report(frame):
    return fairness.GroupReport(frame, by=["sex", "race"], patient="subject", draws=DRAWS)


def test_numbers_are_those_of_an_audit_of_the_same_file(frame, report, tmp_path):
    frame.rename(columns={"subject": "patient_id"}).to_csv(tmp_path / "scores.csv", index=False)
    audited = audit.table(tmp_path / "scores.csv", ["sex", "race"], settings=audit.Settings(draws=DRAWS))
    for part in ("scores", "rates", "interactions", "power"):
        assert report.to_dict()[part] == page.plain(audited.report[part])


def test_means_are_over_patients(frame, report):
    combined = frame[["dice_femur", "dice_tibia"]].mean(axis=1)
    by_patient = combined.groupby(frame["subject"]).mean()
    sex = frame.groupby("subject")["sex"].first()
    table = report.by_group.set_index(["structure", "group"])
    for level in ("female", "male"):
        row = table.loc[("all structures", f"sex={level}")]
        np.testing.assert_allclose(row["mean"], by_patient[sex == level].mean(), rtol=1e-12)
        assert row["low"] < row["mean"] < row["high"]
        assert (row["patients"], row["cases"]) == (PATIENTS // 2, PATIENTS)
    np.testing.assert_allclose(report.overall.estimate, by_patient.mean(), rtol=1e-12)
    assert report.overall.n == PATIENTS


def test_a_planted_gap_has_its_row_in_every_table(report):
    structure, attribute = "tibia", "sex"
    pairs = report.pairs.set_index(["structure", "attribute"]).loc[(structure, attribute)]
    assert {pairs["first"], pairs["second"]} == {"sex=female", "sex=male"}
    assert abs(pairs["difference"]) == pytest.approx(0.05, abs=0.02)
    tests = report.tests.set_index(["structure", "attribute"]).loc[(structure, attribute)]
    assert tests["p"] < 0.02
    assert tests["p_bh"] >= tests["p"]
    gap = report.summaries.set_index(["structure", "attribute"]).loc[(structure, attribute), "gap"]
    assert gap > 0.03


def test_long_wide_and_arrays_agree(frame):
    dice = frame[["case_id", "sex", "dice_femur", "dice_tibia"]]
    long = dice.melt(["case_id", "sex"], var_name="structure", value_name="dice")
    long["structure"] = long["structure"].str.removeprefix("dice_")
    reports = [
        fairness.GroupReport(table, by="sex", draws=DRAWS).to_dict()["scores"]
        for table in (dice, long, {name: dice[name].to_numpy() for name in dice})
    ]
    assert reports[0] == reports[1] == reports[2]


def test_scores_and_one_attribute_are_enough():
    rng = np.random.default_rng(1)
    scores = rng.uniform(0.8, 1.0, 30)
    report = fairness.GroupReport({"dice": scores, "sex": ["f", "m"] * 15}, by="sex", draws=DRAWS)
    means = report.by_group.set_index("group")["mean"]
    assert list(means.index) == ["sex=f", "sex=m"]
    assert len(report.tests) == len(report.pairs) == len(report.summaries) == 1
    np.testing.assert_allclose(means["sex=f"], scores[::2].mean(), rtol=1e-12)
    assert report.tests["p_holm"].notna().all()
    assert len(repr(report).splitlines()) <= 10


def test_another_score_has_its_own_tables(frame):
    report = fairness.GroupReport(frame, "hd95_mm", "sex", patient="subject", draws=DRAWS)
    by_patient = frame.groupby("subject")["hd95_mm_femur"].mean()
    np.testing.assert_allclose(report.overall.estimate, by_patient.mean(), rtol=1e-12)
    assert set(report.by_group["structure"]) <= {"all structures", "femur", "tibia"}


def test_page_names_no_other_file(report, tmp_path):
    path = report.to_html(tmp_path / "report.html")
    html = path.read_text()
    assert "groups.csv" not in html and "checklist" not in html
    assert "report.json" not in html
    assert list(tmp_path.iterdir()) == [path]


def test_a_notebook_sees_a_table_and_a_figure(report):
    assert report._repr_html_().count("<tr") == 1 + 2 + 2 + 4  # head, sex, race, both
    assert len(repr(report).splitlines()) == 5  # all, sex, race, both, a note on cases without HD95
    figure = report.plot()
    assert isinstance(figure, Figure)
    assert [axes.get_title("left") for axes in figure.axes] == ["All structures", "Femur", "Tibia"]
    assert {axes.get_xlabel() for axes in figure.axes} == {"mean Dice"}


def test_the_first_lines_have_the_direction_of_each_gap_and_the_notes(frame, report):
    means = report.by_group.set_index(["structure", "group"])["mean"]["all structures"]
    assert means["sex=female"] > means["sex=male"]
    lines = repr(report).splitlines()
    assert lines[1].startswith("  sex: ") and lines[1].count("(female higher than male)") == 1
    (note,) = report.notes
    assert lines[-1].startswith(f"  note: {note[:60]}") and html.escape(lines[-1]) in report._repr_html_()
    distances = fairness.GroupReport(frame, "hd95_mm", "sex", patient="subject", draws=DRAWS)
    means = distances.by_group.set_index(["structure", "group"])["mean"]["all structures"]
    higher, lower = means.sort_values(ascending=False).index.str.removeprefix("sex=")
    first, second, _ = repr(distances).splitlines()
    assert "lower is better" in first and f"({higher} higher than {lower})" in second


def test_a_gap_by_failures_states_both_directions(frame):
    failed = frame["subject"].isin([f"p{k}" for k in range(1, 20, 2)])
    male = frame["sex"] == "male"
    table = frame.assign(
        dice_femur=frame["dice_femur"].where(~failed, 0.2), dice_tibia=frame["dice_tibia"] + 0.1 * male - 0.05
    )
    line = repr(fairness.GroupReport(table, by="sex", patient="subject", draws=DRAWS)).splitlines()[2]
    overall, without_failures = line.split("; ")
    assert "(female higher than male)" in overall and "(male higher than female)" in without_failures
    untested = fairness.GroupReport(frame.assign(dice_femur=0.1), by="sex", patient="subject", draws=DRAWS)
    assert "higher than" in repr(untested).splitlines()[2]
    assert "all structures" not in set(untested.tests["structure"])
    equal = fairness.GroupReport(
        {"dice": [0.8, 0.8, 0.9, 0.9] * 8, "sex": [*"fm"] * 16}, by="sex", draws=DRAWS
    )
    assert equal.summaries["gap"][0] == 0 and "higher than" not in repr(equal)


def test_attributes_and_notes_fill_ten_lines(frame):
    attributes = {f"a{k}": frame["race"] for k in range(4)}
    table = frame.assign(**attributes, dice_femur=frame["dice_femur"].where(frame.index != 0))
    report = fairness.GroupReport(table, by=list(attributes), patient="subject", draws=DRAWS)
    assert len(report.notes) > 1 and len(repr(report).splitlines()) <= 10


@pytest.mark.parametrize(
    ("change", "names"),
    [
        ({"score": "accuracy"}, "accuracy"),
        ({"score": "nsd"}, "nsd"),
        ({"by": "height"}, "height"),
        ({"patient": "owner"}, "owner"),
        ({"case": "film"}, "film"),
        ({"by": ()}, "by= names nothing"),
        ({"by": "height"}, "by= names 'height'"),
        ({"bins": {"race": [1, 2]}}, r"bins= names 'race', which is not among by="),
        ({"draws": 3}, "^draws=3"),
        ({"failure_dice": 2.0}, "^failure_dice=2"),
    ],
)
def test_a_name_that_is_not_there_is_named(frame, change, names):
    with pytest.raises(InputError, match=names):
        fairness.GroupReport(frame, **({"by": "sex", "draws": DRAWS} | change))


def test_rows_are_counted_from_0(frame):
    wrong = frame.assign(dice_femur=frame["dice_femur"].where(frame.index != 7, 1.5))
    with pytest.raises(InputError, match=r"frame row 7: .*1\.5"):
        fairness.GroupReport(wrong, by="sex", draws=DRAWS)


def test_a_long_table_needs_its_cases():
    with pytest.raises(InputError, match="case="):
        fairness.GroupReport({"structure": ["a", "b"], "dice": [1.0, 1.0], "sex": ["f", "m"]}, by="sex")
    with pytest.raises(InputError, match="length"):
        fairness.GroupReport({"dice": np.ones(3), "sex": ["f", "m"]}, by="sex")


def test_a_long_table_needs_its_structures():
    frame = {"case": ["a", "a", "b", "b"], "dice": [0.9, 0.8, 0.9, 0.7], "sex": [*"ffmm"]}
    with pytest.raises(InputError, match=r"frame row 1: case 'a'.*column structure; add it"):
        fairness.GroupReport(frame, by="sex", case="case", draws=DRAWS)


def test_several_models_are_refused(frame):
    combined = pd.concat([frame.assign(model="a"), frame.assign(model="b")])
    with pytest.raises(InputError, match=r"models a, b"):
        fairness.GroupReport(combined, by="sex", draws=DRAWS)


def test_an_index_with_names_is_columns(frame, report):
    indexed = frame.set_index(["subject", "case_id"])
    indexed_report = fairness.GroupReport(indexed, by=["sex", "race"], patient="subject", draws=DRAWS)
    assert indexed_report.to_dict()["scores"] == report.to_dict()["scores"]


def test_columns_that_are_not_plain_are_refused(frame):
    twice = pd.concat([frame, frame[["sex"]]], axis=1)
    with pytest.raises(InputError, match="'sex' twice"):
        fairness.GroupReport(twice, by="sex", draws=DRAWS)
    levels = frame.set_axis(pd.MultiIndex.from_product([["x"], frame.columns]), axis=1)
    with pytest.raises(InputError, match="levels"):
        fairness.GroupReport(levels, by="sex", draws=DRAWS)


def test_failures_are_in_the_first_lines(frame, tmp_path):
    failed = frame["subject"].isin([f"p{k}" for k in range(0, 20, 2)])
    table = frame.assign(dice_femur=frame["dice_femur"].where(~failed, 0.2))
    report = fairness.GroupReport(table, by="sex", patient="subject", draws=DRAWS)
    assert "10 patients" in repr(report).splitlines()[1]
    rates = report.rates.set_index(["endpoint", "structure", "group"])
    assert rates.loc[("dice<0.5", "all structures", "sex=female"), "count"] == 10
    assert rates.loc[("dice<0.5", "all structures", "sex=male"), "count"] == 0
    assert report.to_html(tmp_path / "new" / "report.html").exists()


def test_cases_without_a_score_are_noted(frame):
    table = frame.assign(dice_femur=frame["dice_femur"].where(frame.index > 1))
    (note,) = [
        text for text in fairness.GroupReport(table, by="sex", draws=DRAWS).notes if "no score" in text
    ]
    assert "2 rows" in note and "k000" in note
