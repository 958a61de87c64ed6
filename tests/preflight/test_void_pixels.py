import pandas as pd

from kneefair_jax.preflight import void_pixels

CASES = pd.DataFrame(
    {"sex": pd.Categorical(["f", "f", "m", "m"]), "site": pd.Categorical(["a", "b", "a", "b"])}
)


def test_counts_by_hand():
    counts = void_pixels.of_groups([0.5, 0.25, 0.0, 0.25], CASES, ("sex",))
    assert counts == {
        "all": {"cases": 4, "void_cases": 3, "share": 0.25},
        "sex=f": {"cases": 2, "void_cases": 2, "share": 0.375},
        "sex=m": {"cases": 2, "void_cases": 1, "share": 0.125},
    }
    lines = list(void_pixels.lines(counts, " of the external cohort"))
    assert len(lines) == 4 and "external" in lines[0]
    assert all(word in lines[3] for word in ("sex=m", "1 of 2", "12.5%"))


def test_nothing_is_said_without_void():
    assert void_pixels.of_groups([0.0] * 4, CASES, ("sex", "site")) == {}
    assert list(void_pixels.lines({}, "")) == []
