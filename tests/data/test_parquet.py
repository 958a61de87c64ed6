import os

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from benchmarks.hostile_inputs import table_files
from kneefair_jax.data import parquet
from kneefair_jax.errors import InputError


def test_a_table_is_read_with_its_order_of_levels(tmp_path):
    path = tmp_path / "t.parquet"
    grade = pd.Categorical(["low", "high", "low"], ["low", "high"], ordered=True)
    frame = pd.DataFrame({"case_id": ["a", "b", None], "grade": grade, "dice": [0.5, np.nan, 1.0]})
    frame.to_parquet(path)
    table = parquet.read(path)
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
        parquet.read(tmp_path / name)


def test_rows_without_bytes_are_refused_before_they_are_expanded(tmp_path, monkeypatch):
    path = tmp_path / "t.parquet"
    pq.write_table(pa.table({"case_id": pa.array(np.zeros(1_000_000, np.int8))}), path)
    assert os.path.getsize(path) < 10_000
    with pytest.raises(InputError, match="1000000 cells"):
        parquet.read(path, most_cells=999_999)
