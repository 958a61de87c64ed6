import math

from hypothesis import given, settings
from hypothesis import strategies as st

from kneefair_jax.training import selection

RECORDS = [
    {"step": 1, "overall": 0.90, "groups": {"a": 0.92, "b": 0.70}},
    {"step": 2, "overall": 0.88, "groups": {"a": 0.89, "b": 0.80}},
    {"step": 3, "overall": 0.85, "groups": {"a": 0.85, "b": 0.81}},
    {"step": 4, "overall": 0.80, "groups": {"a": 0.80, "b": 0.60}},
]


def test_by_hand():
    assert selection.overall(RECORDS)["step"] == 1
    assert selection.worst_group(RECORDS)["step"] == 3
    # U = (.92, .81); the distances are .11, .0316, .07, ...
    assert selection.utopia(RECORDS)["step"] == 2
    assert selection.preserved_steps(RECORDS, recent=1) == {
        1,
        2,
        3,
        4,
    }  # 4 is the latest, the rest are not dominated


def test_ties_go_to_the_earlier_step():
    records = [{"step": step, "overall": 0.5, "groups": {"a": 0.5}} for step in (3, 1, 2)]
    assert {rule(records)["step"] for rule in selection.RULES.values()} == {1}


def test_a_group_without_a_score_at_some_step_is_not_compared():
    records = [
        {"step": 1, "overall": 0.5, "groups": {"a": 0.5, "b": 0.1}},
        {"step": 2, "overall": 0.6, "groups": {"a": 0.6}},
    ]
    assert {rule(records)["step"] for rule in selection.RULES.values()} == {2}
    assert selection.preserved_steps(records, recent=1) == {2} and selection.preserved_steps(records) == {
        1,
        2,
    }


def test_without_groups_the_worst_is_the_overall():
    records = [{"step": step, "overall": step / 10, "groups": {}} for step in (1, 3, 2)]
    assert selection.worst_group(records)["step"] == 3


@settings(max_examples=100)
@given(st.lists(st.tuples(*[st.integers(0, 5)] * 2), min_size=1, max_size=12))
def test_deleting_as_we_go_never_changes_a_choice(scores):
    """What orbax deletes after each save must not have been needed by any rule later."""
    everything, disk = [], []
    for step, (a, b) in enumerate(scores):
        record = {"step": step, "overall": (3 * a + b) / 4, "groups": {"a": float(a), "b": float(b)}}
        everything.append(record)
        disk = [r for r in [*disk, record] if r["step"] in selection.preserved_steps([*disk, record])]
    for rule in (selection.overall, selection.worst_group):
        assert rule(disk)["step"] == rule(everything)["step"]
    best = {g: max(r["groups"][g] for r in everything) for g in "ab"}
    distance = lambda r: math.dist([r["groups"][g] for g in "ab"], [best[g] for g in "ab"])
    assert distance(selection.utopia(disk)) == min(map(distance, everything))
