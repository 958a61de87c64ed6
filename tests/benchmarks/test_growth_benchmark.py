"""The benchmark of growth runs at its smallest sizes, and its page shows what it measured."""

import pytest

from benchmarks import growth, performance_tables, phantom, scaling
from benchmarks.jax_step import Setting, in_turns

ABOUT = {"hardware": {"processor": "a CPU", "cores": 2}, "versions": {}}


def page(**sections):
    return "\n\n".join(performance_tables.growth_section({k: ABOUT | v for k, v in sections.items()}))


def test_variants_take_turns_in_both_directions():
    calls = []

    def timer(name):
        return lambda updates: calls.append((name, updates)) or 500.0

    times = in_turns({"a": timer("a"), "b": timer("b")}, rounds=2, seconds=1.0)
    assert times == {"a": [500.0] * 2, "b": [500.0] * 2}
    assert calls[-4:] == [("a", 2), ("b", 2), ("b", 2), ("a", 2)]


@pytest.mark.slow
def test_steps_and_groups(monkeypatch):
    monkeypatch.setattr(growth, "network", lambda: {"name": "unet", "widths": (2,), "convolutions": 1})
    rows = growth.step_rows([Setting("tiny", side, "float32", 2) for side in (4, 8)], 1, 0.0)
    assert [row["side"] for row in rows] == [4, 8] and rows[1]["growth_per_doubling"] > 0
    monkeypatch.setattr(growth, "GROUPS", (1, 3))
    groups = growth.measure_groups(1, 0.0, side=4)
    assert [(row["objective"], row["groups"]) for row in groups["rows"]] == [
        ("group_dro", 1),
        ("group_dro", 3),
        ("gap_penalty", 1),
        ("gap_penalty", 3),
    ]
    assert all(row["share"] > -1 and row["alone_microseconds"] > 0 for row in groups["rows"])
    text = page(steps={"side": rows, "batch_size": rows}, groups=groups)
    assert "| 8 x 8 | 2 |" in text and "| `gap_penalty` | 3 |" in text


def test_draws():
    result = growth.measure_bootstrap(1, patients=60, draws=(40, 80))
    assert [row["draws"] for row in result["rows"]] == [40, 80]
    assert result["rows"][1]["growth_per_doubling"] > 0
    assert "| 80 |" in page(bootstrap=result)


def test_the_page_states_programs_that_were_compiled_twice():
    starts = {"seconds": {"import kneefair_jax": 0.04}, "first_step_seconds": {"cold": 20.0}}
    starts |= {"run_seconds": {"cold": 25.0}, "programs": {"jit(step)": 2}}
    named = [
        page(start_up=starts | {"compiled_again": names}).count("jit(step)") for names in ([], ["jit(step)"])
    ]
    assert named[1] == named[0] + 1


@pytest.mark.slow
def test_an_evaluation_and_a_start(tmp_path):
    row = scaling.measure(scaling.Task("evaluate", (700,), growth.trained_run), 700)
    assert row["size"] == 700 and row["gibibytes"] > 0
    with growth.cache_of_programs(tmp_path / "cache"):
        result = growth.start_run(tmp_path / "run", tmp_path / "store")
    assert 0 < result["first_step"] < result["total"]
    assert "jit(train_step)" in [name for name, _ in result["programs"]]


@pytest.mark.slow
def test_the_share_of_drawing():
    share = phantom.drawing_share(1, 0.0, side=16)
    assert len(share["shares"]) == 1 and share["online_milliseconds"] > 0
