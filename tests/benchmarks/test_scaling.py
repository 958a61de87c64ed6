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
