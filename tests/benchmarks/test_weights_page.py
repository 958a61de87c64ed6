"""The page of the shipped networks is that of the committed results."""

from benchmarks import weights_page


def test_the_page_is_up_to_date():
    assert weights_page.PAGE.read_text() == weights_page.page(weights_page.read())


def test_tables_by_hand():
    text = weights_page.table(["a", "b"], [["1", "2"], ["3", "4"]])
    assert text == "| a | b |\n| --- | --- |\n| 1 | 2 |\n| 3 | 4 |"
    assert (
        weights_page.triple({"mean": 0.9876, "percentile_5": 0.9, "worst": 0.8004}) == "0.988 (0.900, 0.800)"
    )


def test_robustness_names_the_lowest_visible_bone():
    entries = [
        {"femur": {"mean": 0.9, "films": 3}, "tibia": {"mean": 0.8, "films": 3}},
        {"femur": {"mean": 0.7, "films": 3}, "tibia": {"mean": 0.1, "films": 0}},
    ]
    curve = {"axis": "degrees", "steps": [0, 10], "visible": entries}
    text = weights_page.robustness({"robustness": {"cases": 3, "curves": {"rotation": curve}}})
    assert "| rotation | degrees | 0: 0.800, 10: 0.700 |" in text
