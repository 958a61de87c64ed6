import pandas as pd

from kneefair_jax import groups
from kneefair_jax.report import examples


def test_the_best_the_median_and_the_worst_by_hand():
    """Macro Dice of a to e: .9, .5, .7, .3 for women, one man; a case without any score is no example."""
    femur = pd.DataFrame(
        {
            "case_id": list("abcdef"),
            "sex": groups.categorical(pd.Series(["f", "f", "f", "f", "m", "m"])),
            "dice": [1.0, 0.6, 0.8, 0.4, 0.9, None],
        }
    )
    tibia = femur.assign(dice=[0.8, 0.4, 0.6, 0.2, None, None])
    chosen = examples.choose(pd.concat([femur, tibia]), ["sex"])
    assert [(c.case_id, c.group, c.rank, round(c.score, 9)) for c in chosen] == [
        ("a", "sex=f", "best", 0.9),
        ("b", "sex=f", "median", 0.5),
        ("d", "sex=f", "worst", 0.3),
        ("e", "sex=m", "only", 0.9),
    ]
