"""`fairness.compare` against numbers by hand, against `audit.table` of the same scores, and its refusals."""

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from kneefair_jax import audit, fairness
from kneefair_jax.errors import InputError
from kneefair_jax.report import page

DRAWS = 200
SEX = np.array(["female", "male"] * 12)
PATIENTS = [f"p{k:02}" for k in range(24)]


def frame(shift, seed=0):
    """Two structures around each patient's score: 0.9 for male patients, `shift` lower for female ones."""
    rng = np.random.default_rng(seed)
    scores = np.where(SEX == "female", 0.9 - shift, 0.9) + rng.normal(0, 0.01, len(SEX))
    return pd.DataFrame(
        {
            "patient_id": PATIENTS,
            "case_id": PATIENTS,
            "sex": SEX,
            "dice_femur": scores + 0.01,
            "dice_tibia": scores - 0.01,
        }
    )


@pytest.fixture(scope="module")
def frames():
    return {"erm": frame(0.06), "dro": frame(0.02, seed=1)}


@pytest.fixture(scope="module")
def comparison(frames):
    return fairness.compare(frames, by=["sex"], draws=DRAWS)


def macro(table):
    return table[["dice_femur", "dice_tibia"]].mean(axis=1).to_numpy()


def test_changes_by_hand(frames, comparison):
    first, second = (macro(table) for table in frames.values())
    gaps = [abs(scores[SEX == "male"].mean() - scores[SEX == "female"].mean()) for scores in (first, second)]
    (row,) = comparison.changes.itertuples()
    assert (row.first, row.second, row.attribute, row.patients) == ("erm", "dro", "sex", 24)
    assert row.gap_patients == 24
    assert [row.first_mean, row.second_mean] == pytest.approx([first.mean(), second.mean()])
    assert row.mean_change == pytest.approx((second - first).mean())
    assert [row.first_gap, row.second_gap, row.gap_change] == pytest.approx([*gaps, gaps[1] - gaps[0]])
    assert row.mean_low < row.mean_change < row.mean_high
    assert row.gap_low < row.gap_change < row.gap_high < 0
    assert row.gap_p_holm == row.gap_p < 0.05


def test_changes_by_group_by_hand(frames, comparison):
    first, second = (macro(table) for table in frames.values())
    rows = comparison.changes_by_group
    assert rows[["first", "second", "attribute", "patients"]].drop_duplicates().to_numpy().tolist() == [
        ["erm", "dro", "sex", 12]
    ]
    for row, level in zip(rows.itertuples(), ("female", "male"), strict=True):
        assert row.group == f"sex={level}" and row.low < row.change < row.high
        assert row.change == pytest.approx((second - first)[level == SEX].mean())
        assert row.second_mean - row.first_mean == pytest.approx(row.change)


def test_means_by_group_are_those_of_each_model(frames, comparison):
    means = comparison.by_group.set_index(["model", "group"])["mean"]
    for model, table in frames.items():
        for level in ("female", "male"):
            assert means[model, f"sex={level}"] == pytest.approx(macro(table)[level == SEX].mean())


def test_numbers_are_those_of_an_audit_of_both_tables(frames, comparison, tmp_path):
    combined = pd.concat([table.assign(model=model) for model, table in frames.items()])
    combined.to_csv(tmp_path / "scores.csv", index=False)
    audited = audit.table(tmp_path / "scores.csv", ["sex"], settings=audit.Settings(draws=DRAWS))
    assert comparison.to_dict() == page.plain(audited.report["models"])


def with_distances(table, seed):
    """HD95 that is 1 to 2 mm larger in female patients, of rows in another order."""
    rng = np.random.default_rng(seed)
    female = (table["sex"] == "female") * rng.uniform(1, 2)
    distances = {f"hd95_mm_{bone}": rng.gamma(4, 0.5, len(table)) + female for bone in ("femur", "tibia")}
    return table.assign(**distances).sample(frac=1, random_state=seed)


def test_distances_are_compared_by_case_with_the_gaps_of_each_report(frames):
    models = {name: with_distances(table, k) for k, (name, table) in enumerate(frames.items())}
    result = fairness.compare(models, by="sex", score="hd95_mm", draws=DRAWS)
    reports = [
        fairness.GroupReport(table, "hd95_mm", "sex", draws=DRAWS).summaries.set_index("structure")
        for table in models.values()
    ]
    first, second = (
        table.set_index("case_id")[["hd95_mm_femur", "hd95_mm_tibia"]].mean(axis=1)
        for table in models.values()
    )
    (row,) = result.changes.itertuples()
    gaps = [report.loc["all structures", "gap"] for report in reports]
    assert [row.first_gap, row.second_gap] == pytest.approx(gaps)
    assert row.gap_change == pytest.approx(gaps[1] - gaps[0])
    assert row.mean_change == pytest.approx((second - first).mean())
    assert row.mean_low < row.mean_change < row.mean_high
    means = result.by_group.set_index(["model", "group"])["mean"]
    for name, scores in zip(models, (first, second), strict=True):
        by_sex = scores.groupby(models[name].set_index("case_id")["sex"]).mean()
        for sex, mean in by_sex.items():
            assert means[name, f"sex={sex}"] == pytest.approx(mean)
    assert result.score == result.to_dict()["score"] == "hd95_mm"
    assert "lower is better" in repr(result).splitlines()[0]
    assert result.plot().axes[1].get_xlabel() == "change of the gap of HD95, mm"


@pytest.mark.parametrize("score", ["accuracy", "ece", "hd95_mm"])
def test_a_score_that_a_model_lacks_is_refused(frames, score):
    models = frames | {"erm": with_distances(frames["erm"], 0)}
    with pytest.raises(InputError, match=rf"score='?{score}"):
        fairness.compare(models, by="sex", score=score, draws=DRAWS)


def test_arrays_are_paired_by_row(frames, comparison):
    arrays = {
        model: {name: table[name].to_numpy() for name in ("sex", "dice_femur", "dice_tibia")}
        for model, table in frames.items()
    }
    changes = ["patients", "mean_change", "first_gap", "second_gap", "gap_change"]
    rows = fairness.compare(arrays, by="sex", draws=DRAWS).changes[changes]
    np.testing.assert_allclose(rows, comparison.changes[changes], rtol=1e-12)


def test_a_notebook_sees_tables_and_a_figure(frames, comparison):
    assert isinstance(comparison.plot(), Figure)
    assert all(axes.get_xlabel() for axes in comparison.plot().axes)
    assert comparison._repr_html_().count("<tr") == 2
    assert len(repr(comparison).splitlines()) == 2
    models = {
        f"model {k}": table for k, table in enumerate([*frames.values(), frame(0.03, 2), frame(0.04, 3)])
    }
    assert len(repr(fairness.compare(models, by="sex", draws=DRAWS)).splitlines()) == 7


def test_several_models_have_a_row_per_pair_and_attribute(frames):
    race = np.repeat(["A", "B"], 12)
    models = {name: table.assign(race=race) for name, table in (frames | {"other": frame(0.04, 2)}).items()}
    result = fairness.compare(models, by=["sex", "race"], draws=DRAWS)
    assert len(result.changes) == 6 and result.models == ("erm", "dro", "other")
    assert len(repr(result).splitlines()) <= 10


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda frames: {"erm": frames["erm"]}, "two models"),
        (
            lambda frames: frames | {"dro": frames["dro"][:20]},
            r"by dro for 4 of 24 cases \(p20, [^-]*every frame$",
        ),
        (lambda frames: frames | {"dro": frames["dro"].assign(model="x")}, r"frames\['dro'\]: .*'model'"),
        (lambda frames: frames | {"dro": frames["dro"].drop(columns="sex")}, r"frames\['dro'\]: by= .*'sex'"),
        (lambda frames: frames | {"dro": frames["dro"].replace({"sex": {"male": "m"}})}, "differ in sex"),
        (lambda frames: frames | {"dro": frames["dro"].assign(dice_femur=1.5)}, r"frames\['dro'\] row 0"),
    ],
)
def test_tables_that_cannot_be_compared_are_refused(frames, change, message):
    with pytest.raises(InputError, match=message):
        fairness.compare(change(frames), by="sex", draws=DRAWS)


def test_too_few_draws_are_refused_by_the_parameter(frames):
    with pytest.raises(InputError, match=r"^draws=10"):
        fairness.compare(frames, by="sex", draws=10)


def test_frames_without_names_are_refused():
    with pytest.raises(InputError, match="model -> table"):
        fairness.compare([{"dice": [0.9, 0.8]}, {"dice": [0.8, 0.9]}])


CHANGES = ["mean_change", "mean_low", "mean_high", "gap_change", "gap_low", "gap_high"]


def in_another_order(table):
    """Rows shuffled within each sex, so that every attribute still agrees row by row."""
    order = np.arange(len(table))
    for level in ("female", "male"):
        rows = np.flatnonzero(table["sex"] == level)
        order[rows] = np.random.default_rng(3).permutation(rows)
    return table.iloc[order]


@pytest.mark.parametrize("identifier", ["patient", "index"])
def test_rows_in_another_order_are_paired_by_patient_or_index(frames, comparison, identifier):
    if identifier == "patient":
        first, second = (table.drop(columns="case_id") for table in frames.values())
        second = in_another_order(second).reset_index(drop=True)
    else:
        first, second = (table.set_index("case_id").rename_axis(None) for table in frames.values())
        first, second = (table.drop(columns="patient_id") for table in (first, second))
        second = in_another_order(second)
    rows = fairness.compare({"erm": first, "dro": second}, by="sex", draws=DRAWS).changes
    np.testing.assert_allclose(rows[CHANGES].astype(float), comparison.changes[CHANGES].astype(float))


def two_knees(table):
    table = table.drop(columns="case_id")
    return pd.concat([table, table.assign(dice_femur=table["dice_femur"] - 0.01)], ignore_index=True)


@pytest.mark.parametrize(
    "change",
    [
        lambda table: table.drop(columns=["case_id", "patient_id"]).set_index(np.arange(5, 29)),
        lambda table: table.drop(columns="case_id").assign(patient_id=[f"q{k}" for k in range(24)]),
        lambda table: in_another_order(two_knees(table)).reset_index(drop=True),
        lambda table: table,
    ],
    ids=["index", "patients", "two knees", "a column of cases in one frame"],
)
def test_frames_that_cannot_be_paired_are_refused(frames, change):
    second = change(frames["dro"])
    is_paired = len(second) == 24
    first = frames["erm"].drop(columns="case_id") if is_paired else two_knees(frames["erm"])
    first = first if "patient_id" in second else first.drop(columns="patient_id")
    with pytest.raises(InputError, match=r"frames\['\w+'\].*case=\"\.\.\.\""):
        fairness.compare({"erm": first, "dro": second}, by="sex", draws=DRAWS)
