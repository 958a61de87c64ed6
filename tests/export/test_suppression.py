"""Small counts and those that give them by subtraction are hidden in the model card and in the description alike."""

import re

from kneefair_jax.export import model_card, network_files
from tests.export.test_model_card import CONFIG, ENVIRONMENT

SPLITS = ("train", "validation", "test", "all")
COUNTS = {
    "sex=female": (60, 20, 30, 110),
    "sex=male": (62, 22, 31, 115),
    "race=A": (100, 35, 46, 181),
    "race=B": (22, 7, 15, 44),
    "sex=female,race=A": (50, 17, 23, 90),
    "sex=female,race=B": (10, 3, 7, 20),
    "sex=male,race=A": (50, 18, 23, 91),
    "sex=male,race=B": (12, 4, 8, 24),
}
CELLS = {(group, split): n for group, row in COUNTS.items() for split, n in zip(SPLITS, row, strict=True)}


def entry(patients):
    return {"mean": 0.9, "interval": [0.8, 0.95], "patients": patients, "cases": 2 * patients}


def report():
    groups = {group: entry(row[2]) for group, row in COUNTS.items()}
    table = [
        {"group": group, "split": split, "patients": n, "cases": 2 * n} for (group, split), n in CELLS.items()
    ]
    return {
        "cohort": {"structures": ["femur"], "attributes": ["sex", "race"], "table": table},
        "run": {"grid": [64, 48], "step": 900},
        "scores": {"dice": {"structures": {"femur": {"overall": entry(61), "groups": groups}}}},
    }


def test_no_sum_has_a_single_hidden_count():
    result = model_card.suppress(CELLS, 10)
    assert result.small == {cell for cell, count in CELLS.items() if count < 10}
    for group in COUNTS:
        assert sum((group, split) in result.hidden for split in SPLITS) != 1
    for split in SPLITS:
        for total, terms in (
            ((), ("race=A", "race=B")),
            ((), ("sex=female", "sex=male")),
            (("race=B",), ("sex=female,race=B", "sex=male,race=B")),
            (("sex=female",), ("sex=female,race=A", "sex=female,race=B")),
        ):
            assert sum((group, split) in result.hidden for group in (*total, *terms)) != 1


def test_a_single_group_has_its_smallest_split_hidden_too():
    row = {("race=B", split): n for split, n in zip(SPLITS, COUNTS["race=B"], strict=True)}
    result = model_card.suppress(row, 10)
    assert result.small == {("race=B", "validation")}
    assert result.complementary == {("race=B", "test")}


def test_large_groups_are_all_shown():
    assert not model_card.suppress(CELLS, 3).hidden


def test_card_and_description_hide_the_same_counts():
    files = network_files._Run(CONFIG, report(), ENVIRONMENT | {"started": ""})
    scores = network_files._describe(files, "pad")["dice"]["femur"]
    hidden = {group for group, values in scores.items() if values["patients"] is None}
    small = {group for group, values in scores.items() if values["mean"] is None}
    assert small == {"sex=female,race=B", "sex=male,race=B"} and "race=B" in hidden
    assert all(scores[group]["cases"] is None for group in hidden)
    rows = re.findall(
        r"^\| (\S.*) \| (.+) \| (.+) \|$",
        model_card.model_card_text("mine", *files).partition("## Scores")[2],
        re.M,
    )
    shown = {name.replace(", ", ","): (patients, dice) for name, patients, dice in rows}
    assert {
        name for name, (patients, _) in shown.items() if patients in ("withheld", "fewer than 10")
    } == hidden
    assert {name for name, (_, dice) in shown.items() if dice == "too few"} == small
