import io

import pandas as pd
import pytest

from kneefair_jax.report import csv_tables
from kneefair_jax.report.page import plain
from tests.report import failed_cohort


@pytest.fixture
def report():
    return plain(failed_cohort.report(failed_cohort.cases(8))) | {"scores": {}}


def test_every_rate_has_a_row(report):
    rows = pd.read_csv(io.StringIO(csv_tables.tables(report)["rates.csv"]))
    women = rows.query("endpoint == 'dice<0.5' and structure == 'all structures' and group == 'sex=female'")
    assert women[["patients", "count", "rate"]].to_numpy().tolist() == [[30, 8, pytest.approx(8 / 30)]]
    assert women[["low", "high"]].to_numpy()[0].tolist() == pytest.approx([0.1228, 0.4589], abs=1e-4)
    assert set(rows["endpoint"]) == {"dice<0.5", "absent", "dice>=0.9", "hd95_mm<=5"}
    small = rows.query("group == 'race=C' and structure == 'patella'")
    assert len(small) == 4 and not small["ranked"].any()
    assert rows.query("group == 'all'")["count"].tolist() == [8, 0, 52, 52]


def test_every_test_has_a_row(report):
    rows = pd.DataFrame(csv_tables.rate_test_rows(report))
    failure = rows[(rows["endpoint"] == "dice<0.5") & (rows["structure"] == "all structures")]
    assert failure["comparison"].tolist() == [
        *("ranked groups", "pair", "ranked groups", "pair", "small group")
    ]
    assert failure["p"].between(0, 1).all() and (failure["p_adjusted"] >= failure["p"]).all()
    means = rows[rows["endpoint"] == "mean dice"]
    assert means[["first", "second"]].to_numpy().tolist() == [["race=C", "all others"]]


def test_an_external_cohort_has_its_rows_and_what_cannot_be_computed_has_none(report):
    outside = plain(failed_cohort.rates(failed_cohort.cases(2).assign(hd95_mm=float("nan"))))
    rows = pd.DataFrame(csv_tables.rate_rows(report | {"external": {"rates": outside}}))
    external = rows[rows["cohort"] == "external"]
    assert set(external["endpoint"]) == {"dice<0.5", "absent", "dice>=0.9"}
    assert external.query("endpoint == 'dice<0.5' and group == 'all'")["count"].tolist() == [2]


def test_a_report_without_rates_has_no_files_of_them(report):
    assert csv_tables.tables({"scores": {}, "cohort": report["cohort"]}) == {}
