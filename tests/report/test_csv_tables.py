import io

import pandas as pd
import pytest

from kneefair_jax.report import csv_tables
from kneefair_jax.report.page import plain
from tests.report import failed_cohort
from tests.report.reports import external


def read(text: str) -> pd.DataFrame:
    return pd.read_csv(io.StringIO(text))


def test_every_number_of_the_report_is_in_a_cell(audited):
    files = {name: read(text) for name, text in csv_tables.tables(audited).items()}
    assert list(files) == ["groups.csv", "summaries.csv", "pairs.csv", "rates.csv", "models.csv"]
    group = files["groups.csv"].query("score == 'iou' and structure == 'tibia' and group == 'sex=female'")
    entry = audited["scores"]["iou"]["structures"]["tibia"]["groups"]["sex=female"]
    assert group[["mean", "low", "high"]].to_numpy()[0].tolist() == pytest.approx(
        [entry["mean"], *entry["interval"]]
    )
    assert len(files["groups.csv"]) == len(tables_of(audited)) * (1 + len(entry_names(audited)))
    age = files["summaries.csv"].query(
        "score == 'dice' and structure == @csv_tables.ALL_STRUCTURES and attribute == 'age'"
    )
    assert age.iloc[0][["gap", "p_holm", "delta", "equivalent"]].tolist() == [0.004, 0.83, 0.02, True]
    assert age.iloc[0]["equivalence_confidence"] == pytest.approx(0.9667, abs=1e-4)
    pairs = files["pairs.csv"].query(
        "score == 'dice' and structure == @csv_tables.ALL_STRUCTURES and attribute == 'age'"
    )
    assert pairs["difference"].tolist() == pytest.approx([0.004, -0.001, -0.002])
    assert (pairs["equivalence_high"] == 0.012).all() and (pairs["low"] < pairs["high"]).all()


def test_paired_changes_between_models_have_a_row_each(audited):
    table = read(csv_tables.tables(audited)["models.csv"])
    pair = audited["models"]["pairs"][0]
    for statistic in ("mean", "gap"):
        change = pair[f"change_of_{statistic}"]
        row = table[table["statistic"] == statistic].iloc[0]
        assert (row["first"], row["second"], row["patients"]) == (
            pair["first"],
            pair["second"],
            {"mean": 80, "gap": 77}[statistic],
        )
        numbers = [change[key] for key in ("first", "second", "value", "p", "p_holm")]
        columns = ["first_value", "second_value", "change", "p", "p_adjusted"]
        assert row[columns].tolist() == pytest.approx(numbers)
        assert [row["low"], row["high"]] == pytest.approx(change["interval"])
    assert (table["statistic"] == "gap").sum() == sum(
        pair["change_of_gap"] is not None for pair in audited["models"]["pairs"]
    )


def test_the_change_of_each_group_has_a_row(audited):
    table = read(csv_tables.tables(audited)["models.csv"]).query("statistic == 'group mean'")
    assert table["attribute"].tolist() == ["sex", "sex"]
    changes = audited["models"]["pairs"][0]["change_by_group"]
    for (_, row), change in zip(table.iterrows(), changes, strict=True):
        assert row["group"] == change["group"]
        numbers = [change[key] for key in ("patients", "first", "second", "value")]
        columns = ["patients", "first_value", "second_value", "change"]
        assert row[columns].tolist() == pytest.approx(numbers)
        assert [row["low"], row["high"]] == pytest.approx(change["interval"])


def tables_of(report) -> list:
    return [part for scores in report["scores"].values() for part in (scores, *scores["structures"].values())]


def entry_names(report) -> list:
    return list(report["scores"]["dice"]["groups"])


def test_a_report_without_pairs_has_no_table_of_them_and_nulls_are_empty(report):
    files = csv_tables.tables(plain(report))
    assert list(files) == ["groups.csv", "summaries.csv", "rates.csv"]
    assert read(files["summaries.csv"])["ser"].isna().all()


def test_pooled_means_stand_with_the_groups_of_their_own_cohort(report):
    report = plain(report)
    mean = {"patients": 4, "raw": 0.9, "mean": 0.92, "interval": [0.9, 0.94], "weight": 0.4}
    report["pooled"] = {"sex=female": mean}
    report["external"] = external(report, pooled={"sex=male": mean | {"mean": 0.93}})
    table = read(csv_tables.tables(report)["groups.csv"]).dropna(subset="pooled")
    assert table[
        ["cohort", "score", "structure", "group", "pooled", "pooled_low", "pooled_high"]
    ].to_numpy().tolist() == [
        ["test", "dice", csv_tables.ALL_STRUCTURES, "sex=female", 0.92, 0.9, 0.94],
        ["external", "dice", csv_tables.ALL_STRUCTURES, "sex=male", 0.93, 0.9, 0.94],
    ]


@pytest.mark.parametrize("start", ["+", "-", "=", "@"])
def test_text_that_a_spreadsheet_would_run_is_guarded_and_numbers_are_not(start, report):
    report = plain(report)
    summary = report["scores"]["dice"]["summaries"]["sex"]
    summary["worst"]["group"] = f"{start}cmd|' /C calc'!A0"
    summary["gap"]["value"] = -0.5
    row = read(csv_tables.tables(report)["summaries.csv"]).iloc[0]
    assert row["worst_group"] == f"'{start}cmd|' /C calc'!A0" and row["gap"] == -0.5


@pytest.fixture
def rates_report():
    return plain(failed_cohort.report(failed_cohort.cases(8))) | {"scores": {}}


def test_every_rate_has_a_row(rates_report):
    rows = pd.read_csv(io.StringIO(csv_tables.tables(rates_report)["rates.csv"]))
    women = rows.query("endpoint == 'dice<0.5' and structure == 'all structures' and group == 'sex=female'")
    assert women[["patients", "count", "rate"]].to_numpy().tolist() == [[30, 8, pytest.approx(8 / 30)]]
    assert women[["low", "high"]].to_numpy()[0].tolist() == pytest.approx([0.1228, 0.4589], abs=1e-4)
    assert set(rows["endpoint"]) == {"dice<0.5", "absent", "dice>=0.9", "hd95_mm<=5"}
    small = rows.query("group == 'race=C' and structure == 'patella'")
    assert len(small) == 4 and not small["ranked"].any()
    assert rows.query("group == 'all'")["count"].tolist() == [8, 0, 52, 52]


def test_every_test_has_a_row(rates_report):
    rows = pd.DataFrame(csv_tables.rate_test_rows(rates_report))
    failure = rows[(rows["endpoint"] == "dice<0.5") & (rows["structure"] == "all structures")]
    assert failure["comparison"].tolist() == [
        *("ranked groups", "pair", "ranked groups", "pair", "small group")
    ]
    assert failure["p"].between(0, 1).all() and (failure["p_adjusted"] >= failure["p"]).all()
    means = rows[rows["endpoint"] == "mean dice"]
    assert means[["first", "second"]].to_numpy().tolist() == [["race=C", "all others"]]


def test_an_external_cohort_has_its_rows_and_what_cannot_be_computed_has_none(rates_report):
    outside = plain(failed_cohort.rates(failed_cohort.cases(2).assign(hd95_mm=float("nan"))))
    rows = pd.DataFrame(csv_tables.rate_rows(rates_report | {"external": {"rates": outside}}))
    rows = rows[rows["cohort"] == "external"]
    assert set(rows["endpoint"]) == {"dice<0.5", "absent", "dice>=0.9"}
    assert rows.query("endpoint == 'dice<0.5' and group == 'all'")["count"].tolist() == [2]
