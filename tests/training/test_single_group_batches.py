import numpy as np
import pytest

from kneefair_jax import groups
from kneefair_jax.training import single_group_batches
from tests.training import study


def notes(batch_size=2, **mitigation):
    """Of 24 training cases, 18 are of race A and 6 of B."""
    config = study.config(batch_size=batch_size, steps=100)
    config.mitigation.update({"groups": ("race",), "objective": {"name": "group_dro"}, **mitigation})
    return single_group_batches.notes(config, study.cohort())


def test_batches_are_counted_by_hand():
    partition = groups.Partition(("sex",), ("sex=f", "sex=m"), np.array([0, 1, 0, -1], np.int32))
    order = [0, 1, 0, 2, 3, 3, 1, 3, 2, 1]
    assert single_group_batches.count(order, partition, 2, 5) == 3  # 0 2, 3 3 and 1 3
    assert single_group_batches.count(order, partition, 1, 10) == 10


@pytest.mark.parametrize("objective", ["group_dro", "vrex", "gap_penalty", "error_bound"])
def test_batches_of_one_case_are_noted(objective):
    (note,) = notes(batch_size=1, objective={"name": objective})
    assert "100 of the first 100 batches" in note and repr(objective) in note and "equal_share" in note


def test_a_sampler_that_seldom_draws_the_rare_group_is_noted():
    """Chance that two of 24 cases are of one race: (18 x 17 + 6 x 5) / (24 x 23) = 61 %."""
    (note,) = notes()
    count = int(note.partition(" of the first")[0].rpartition(" ")[2])
    assert 50 <= count <= 72


@pytest.mark.parametrize(
    "changes",
    [
        {"sampler": {"name": "equal_share"}},
        {"objective": {"name": "erm"}},
        {"objective": {"name": "reweighted"}},
        {"objective": {"name": "cvar_dro"}},
        {"batch_size": 16},
    ],
    ids=str,
)
def test_what_loses_nothing_by_it_is_not(changes):
    assert notes(**changes) == []


def test_a_cohort_that_is_not_trained_on_has_no_batches():
    config, cohort = study.config(), study.cohort()
    config.mitigation.objective.name = "group_dro"
    assert single_group_batches.notes(config, cohort._replace(cases=cohort.cases.assign(split="test"))) == []
