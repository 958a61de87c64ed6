import numpy as np
import pytest

from benchmarks import scaling


@pytest.mark.parametrize(("power", "factor"), [(1, 2.0), (2, 4.0)])
def test_growth_per_doubling(power, factor):
    sizes = (1_250, 20_000)
    assert scaling.growth(sizes, (3.0 * sizes[0] ** power, 3.0 * sizes[1] ** power)) == pytest.approx(factor)


def test_the_table_of_scores_has_a_row_per_patient_and_structure():
    table = scaling.scores(300)
    assert len(table) == 1200 and table["case_id"].nunique() == 300
    assert table["dice"].between(0, 1).all() and np.isfinite(table["hd95_mm"]).all()


def test_a_row_replaces_that_of_its_task_and_size():
    def row(task, size, seconds):
        return {"task": task, "size": size, "processor_seconds": seconds}

    rows = []
    for one in (row("predict", 20_000, 40.0), row("audit masks", 1_250, 1.0), row("predict", 2_000, 9.0)):
        rows = scaling.merged(rows, one)
    rows = scaling.merged(rows, row("predict", 2_000, 4.0))
    assert [(one["task"], one["processor_seconds"]) for one in rows] == [
        ("audit masks", 1.0),
        ("predict", 4.0),
        ("predict", 40.0),
    ]
    assert rows[2]["growth_per_doubling"] == 2.0 and "growth_per_doubling" not in rows[1]
