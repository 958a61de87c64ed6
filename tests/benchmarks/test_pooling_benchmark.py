from benchmarks import pooling


def test_few_groups_of_skewed_scores_with_unequal_spread_are_covered():
    """Student's intervals without a correction for skewness cover 88 %, as do those of the raw means."""
    measured = pooling.measure("2 x 2 cells", "skewed, doubled spread", 500)
    assert measured["covered"] > 0.91 > measured["raw_covered"] + 0.015
    assert measured["squared_error_over_raw"] < 0.9


def test_table_has_a_row_for_each_truth_and_a_column_for_each_layout():
    cell = {"covered": 0.951, "squared_error_over_raw": 0.5}
    names = [
        f"{layout}: {truth}" for layout in pooling.LAYOUTS | pooling.HELD_OUT for truth in pooling.TRUTHS
    ]
    lines = pooling.table({"settings": dict.fromkeys(names, cell)}).splitlines()
    assert len(lines) == 2 + len(pooling.TRUTHS)
    assert all(line.count("95.1, 0.50") == 9 for line in lines[2:])
