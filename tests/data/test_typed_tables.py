"""Tables of run directories come back as they were written; damaged ones are refused by name."""

import os

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from benchmarks.hostile_inputs import table_files
from kneefair_jax import groups
from kneefair_jax.data import typed_tables
from kneefair_jax.errors import InputError
from kneefair_jax.evaluation import case_table

COUNTS = ("patients", "cases")


def cases():
    frame = pd.DataFrame({name: ["a", "b", "a"] for name in case_table.IDENTIFIERS})
    frame["race"] = groups.categorical(pd.Series(["B", "A", "B"]))
    frame["grade"] = pd.Categorical(["low", "high", "low"], ["low", "high"], ordered=True)
    return frame.assign(**{name: [0.5, np.nan, 1.0] for name in case_table.SCORES})


def test_a_case_table_is_the_one_that_was_written(tmp_path):
    cases().to_parquet(tmp_path / "cases.parquet")
    table = case_table.read(tmp_path / "cases.parquet", ("race", "grade"))
    pd.testing.assert_frame_equal(table, pd.read_parquet(tmp_path / "cases.parquet"))
    pd.testing.assert_frame_equal(table, cases())


@pytest.mark.parametrize(
    "damage",
    [
        lambda frame: frame.drop(columns="dice"),
        lambda frame: frame.drop(columns="race"),
        lambda frame: frame.assign(dice="high"),
        lambda frame: frame.assign(dice=True),
        lambda frame: frame.assign(case_id=1),
        lambda frame: frame.assign(race=0.5),
        lambda frame: frame.assign(dice=[[0.5]] * 3),
    ],
)
def test_a_case_table_without_a_column_of_its_kind_is_refused(tmp_path, damage):
    path = tmp_path / "cases.parquet"
    damage(cases()).to_parquet(path)
    with pytest.raises(InputError, match=r"cases\.parquet.*--mode=evaluate"):
        case_table.read(path, ("race", "grade"))


def test_damaged_case_tables_are_refused(tmp_path, monkeypatch):
    path = tmp_path / "cases.parquet"
    cases().to_parquet(path)
    whole = path.read_bytes()
    with monkeypatch.context() as patch:
        patch.setattr(typed_tables, "MOST_RUN_CELLS", 3 * 15 - 1)
        with pytest.raises(InputError, match="45 cells"):
            case_table.read(path, ("race", "grade"))
    for content in (b"", whole[:-20], b"x" * 100):
        path.write_bytes(content)
        with pytest.raises(InputError, match=r"cases\.parquet"):
            case_table.read(path, ("race",))
    path.unlink()
    for make in (lambda: None, lambda: os.mkfifo(path)):
        make()
        with pytest.raises(InputError, match=r"cases\.parquet"):
            case_table.read(path, ("race",))


def test_counts_are_whole_numbers_and_a_level_may_look_like_a_missing_value(tmp_path):
    path = tmp_path / "cohort.csv"
    path.write_text("group,split,patients,cases\nrace=NA,train,3,4\nNA,test,0,0\n")
    table = typed_tables.read_run_csv(path, ("group", "split"), COUNTS, "evaluate it again")
    assert table.to_dict("list") == {
        "group": ["race=NA", "NA"],
        "split": ["train", "test"],
        "patients": [3, 0],
        "cases": [4, 0],
    }


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"group,split,patients\na,train,1\n",
        b"group,split,patients,cases\na,train,1,-1\n",
        b"group,split,patients,cases\na,train,1,1.5\n",
        b"group,split,patients,cases\na,train,1,\n",
        b"group,split,patients,cases\na,train,1,many\n",
        b"group,split,patients,cases\na,train,1,2\n\xff,train,1,2\n",
        b"group,split,patients,cases\na,train,1,2\na,train,1,2,3\n",
    ],
)
def test_damaged_counts_are_refused(tmp_path, content):
    (tmp_path / "cohort.csv").write_bytes(content)
    with pytest.raises(InputError, match=r"cohort\.csv.*evaluate it again"):
        typed_tables.read_run_csv(tmp_path / "cohort.csv", ("group", "split"), COUNTS, "evaluate it again")


def test_a_table_is_read_with_its_order_of_levels(tmp_path):
    path = tmp_path / "t.parquet"
    grade = pd.Categorical(["low", "high", "low"], ["low", "high"], ordered=True)
    frame = pd.DataFrame({"case_id": ["a", "b", None], "grade": grade, "dice": [0.5, np.nan, 1.0]})
    frame.to_parquet(path)
    table = typed_tables.read_parquet(path)
    assert table["grade"].cat.ordered and list(table["grade"].cat.categories) == ["low", "high"]
    assert table["case_id"].astype(object).tolist()[:2] == ["a", "b"] and table["case_id"].isna()[2]
    np.testing.assert_array_equal(table["dice"], frame["dice"])


@pytest.mark.parametrize(
    "kind",
    [
        "parquet broken off",
        "parquet that is text",
        "pipe as parquet",
        "parquet of lists",
        "parquet of long cells",
    ],
)
def test_bad_files_are_refused_by_name(tmp_path, kind):
    name, write = table_files.REFUSED[kind]
    write(tmp_path / name)
    with pytest.raises(InputError, match=r"t\.parquet"):
        typed_tables.read_parquet(tmp_path / name)


def test_rows_without_bytes_are_refused_before_they_are_expanded(tmp_path, monkeypatch):
    path = tmp_path / "t.parquet"
    pq.write_table(pa.table({"case_id": pa.array(np.zeros(1_000_000, np.int8))}), path)
    assert os.path.getsize(path) < 10_000
    with pytest.raises(InputError, match="1000000 cells"):
        typed_tables.read_parquet(path, most_cells=999_999)
