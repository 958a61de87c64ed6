import pandas as pd

from kneefair_jax import groups
from kneefair_jax.report.examples import choose


def test_the_worst_of_all_then_best_median_and_worst_of_each_level():
    score = {"a": 0.9, "b": 0.5, "c": 0.7, "d": 0.8, "e": None, "f": 0.6}
    table = pd.DataFrame(list(score.items()) * 2, columns=["case_id", "dice"])
    table["structure"] = ["femur"] * 6 + ["tibia"] * 6
    table["sex"] = groups.categorical(table["case_id"].map(dict(zip("abcdef", "mffffm", strict=True))))
    choices = [(c.group, c.rank, c.case_id) for c in choose(table, ["sex"], worst=2)]
    assert choices == [
        ("all", "1", "b"),
        ("all", "2", "f"),
        ("sex=f", "best", "d"),
        ("sex=f", "median", "c"),
        ("sex=f", "worst", "b"),
        ("sex=m", "best", "a"),
        ("sex=m", "worst", "f"),
    ]
