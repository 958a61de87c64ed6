"""The benchmark of the time to a Dice trains, hands PyTorch the same recipe and compares the runs."""

import json
import math

import numpy as np
import pytest
from safetensors.numpy import load_file

from benchmarks import quality_comparison, quality_section, time_to_quality
from kneefair_jax.runtime import atomic
from tests.training import study


def run(side, seed, *, step=10, seconds=4.0, last=0.96, start=1.0, **fields):
    curve = [[5, 1.0, 0.5], [step, seconds, 0.95], [20, 8.0, last]]
    times = {"step": 200.0, "step_without_augmentation": 190.0, "evaluation": 300.0}
    fields |= {"load_average": 0.5, "milliseconds": times, "evaluation_seconds": 0.9}
    return {"side": side, "seed": seed, "start_seconds": start, "curve": curve, "torch": "2.13.0"} | fields


def section():
    sizes = {"steps": 20, "eval_every": 5, "batch_size": 8, "size": [16, 16, 1]}
    machine = {"hardware": {"processor": "one", "cores": 2, "memory_gib": 4}, "versions": {"jax": "1"}}
    return (
        {"target": 0.94, "cases": {"train": 24, "validation": 8}, "started": "2026-11-27"} | sizes | machine
    )


@pytest.fixture
def cases():
    examples = (study.example(row)._asdict() for row in range(40))
    return [{key: example[key] for key in ("image", "label", "spacing")} for example in examples]


@pytest.mark.slow
def test_training_gives_a_curve_and_the_seconds_of_its_parts(cases):
    result = time_to_quality.train_jax(study.config(steps=10, eval_every=5), study.cohort(), cases)
    assert [row[0] for row in result["curve"]] == [5, 10]
    assert 0 < result["curve"][0][1] < result["curve"][1][1]
    assert all(0 <= dice <= 1 for dice in (result["first_dice"], *(row[2] for row in result["curve"])))
    assert 0 < result["evaluation_seconds"] < result["curve"][-1][1]
    assert result["start_seconds"] > 0 and result["warm_start_seconds"] > 0
    times = time_to_quality.time_jax(study.config(), study.cohort(), cases, rounds=1, updates=5)
    assert set(times) == {"step", "step_without_augmentation", "evaluation"} and min(times.values()) > 0


def test_pytorch_gets_the_cases_parameters_and_learning_rates(cases, tmp_path):
    config, cohort = study.config(steps=6), study.cohort()
    time_to_quality.write_inputs(config, cohort, cases, tmp_path)
    arrays = load_file(tmp_path / "arrays.safetensors")
    np.testing.assert_array_equal(arrays["image"][3, 0], study.example(3).image[..., 0])
    np.testing.assert_array_equal(arrays["validation_label"][1], study.example(25).label)
    assert arrays["image"].shape == (24, 1, 16, 16) and arrays["validation_image"].shape[0] == 8
    assert arrays["parameters.encoder_0.Conv_0.weight"].shape == (4, 1, 3, 3)
    peak = config.optimizer.learning_rate
    expected = [peak / 3, 2 * peak / 3, *(peak * (1 + math.cos(math.pi * k / 4)) / 2 for k in range(4))]
    np.testing.assert_allclose(arrays["learning_rate"], expected, rtol=1e-6)
    recipe = json.loads((tmp_path / "recipe.json").read_text())
    assert recipe["augment"]["flip"] == 0.5 and recipe["structures"] == 2 and recipe["steps"] == 6


def test_the_result_of_pytorch_is_its_last_line(cases, tmp_path):
    script = tmp_path / "python"
    script.write_text("#!/bin/sh\necho a note\necho '{\"curve\": [[2, 0.1, 0.5]]}'\n")
    script.chmod(0o755)
    result = time_to_quality.train_torch(study.config(), study.cohort(), cases, str(script))
    assert result == {"curve": [[2, 0.1, 0.5]]}


def test_the_target_is_reached_at_the_first_evaluation_with_that_dice():
    curve = [[25, 1.0, 0.8], [50, 2.0, 0.95], [75, 3.0, 0.94], [100, 4.0, 0.96]]
    assert quality_comparison.reached(curve, 0.95) == (50, 2.0)
    assert quality_comparison.reached(curve, 0.97) is None


def test_an_interruption_does_not_count_as_undisturbed_time():
    curve = [[5, 2.0, 0.1], [10, 12.0, 0.2], [15, 14.0, 0.3], [20, 16.5, 0.4]]
    assert quality_comparison.undisturbed(curve, 15) == 3 * 2.25


def test_sides_are_compared_by_seed():
    runs = [
        run("kneefair_jax", 0, seconds=6.0, start=3.0, warm_start_seconds=2.0, last=0.97),
        run("pytorch", 0, seconds=4.0, last=0.96),
        run("kneefair_jax", 1, seconds=2.0, start=3.0, warm_start_seconds=2.0, last=0.97),
        run("pytorch", 1, seconds=4.0, last=0.98),
        run("kneefair_jax", 2),
    ]
    result = quality_comparison.compare(runs, 0.94)
    assert result["seeds"] == [0, 1]
    ratios = {"loop": [1.5, 0.5], "cold": [9 / 5, 5 / 5], "warm": [8 / 5, 4 / 5]}
    assert {way: result["ratio"][way] for way in ratios} == ratios
    assert result["difference"] == pytest.approx(0.0)
    # t of one degree of freedom is 12.706; the standard error of (0.01, -0.01) is 0.01.
    assert result["interval"] == pytest.approx([-0.12706, 0.12706], abs=1e-5)
    unreached = quality_comparison.compare(runs[:2], 0.965)
    assert unreached["steps"] == {"kneefair_jax": [20], "pytorch": [None]}
    assert unreached["ratio"]["loop"] == [None] and "interval" not in unreached
    assert quality_comparison.compare(runs[:1], 0.94)["ratio"] == {}


def test_another_network_is_shown_beside_the_comparison():
    runs = [run("kneefair_jax", 0), run("pytorch", 0), run("patch2", 0, seconds=2.0, last=0.9)]
    without, result = (quality_comparison.compare(part, 0.94) for part in (runs[:2], runs))
    assert result["seconds"]["patch2"]["cold"] == [3.0] and result["final_dice"]["patch2"] == [0.9]
    assert result["ratio"] == without["ratio"] and "patch2" not in without["steps"]
    text = quality_section.quality_section({"jsrt": section() | {"runs": runs, "comparison": result}})
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in text[3].splitlines()]
    assert [row[0] for row in rows[2:]] == [*quality_section.LABELS.values(), "ratio"]
    assert dict(zip(rows[0], rows[4], strict=True))["s, cold start"] == "3.00 [3.00, 3.00]"


def test_a_run_replaces_that_of_its_side_and_seed_on_the_same_machine():
    runs = [run("pytorch", 1), run("pytorch", 0), run("kneefair_jax", 0), run("pytorch", 0, seconds=3.0)]
    result = {"other": {"runs": []}}
    for one in runs:
        result = quality_comparison.merged(result, "jsrt", section(), one)
    jsrt = result["jsrt"]
    order = [("kneefair_jax", 0), ("pytorch", 0), ("pytorch", 1)]
    assert [(one["side"], one["seed"]) for one in jsrt["runs"]] == order
    assert jsrt["runs"][1]["curve"][1][1] == 3.0 and jsrt["comparison"]["seeds"] == [0]
    other = section() | {"versions": {"jax": "2"}}
    assert quality_comparison.merged(result, "jsrt", other, runs[0])["jsrt"]["runs"] == [runs[0]]
    assert result["other"] == {"runs": []}


def test_the_page_shows_medians_ranges_and_what_was_not_reached(tmp_path):
    assert quality_section.spread([3.0, 1.0, 2.0]) == "2.00 [1.00, 3.00]"
    assert quality_section.spread([3.0, None]).startswith("3.00 [3.00, 3.00]; 1 of 2")
    assert quality_section.quality_section({}) == []
    result = {}
    for seed in (0, 1):
        for side, seconds in (("kneefair_jax", 6.0), ("pytorch", 4.0)):
            one = run(side, seed, seconds=seconds)
            result = quality_comparison.merged(result, "jsrt", section(), one)
    atomic.write_json(tmp_path / "result.json", result)
    text = quality_section.quality_section(json.loads((tmp_path / "result.json").read_text()))
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in text[3].splitlines()]
    expected = {"s": "1.50 [1.50, 1.50]", "s, warm start": "1.40 [1.40, 1.40]"}
    assert {key: dict(zip(rows[0], rows[-1], strict=True))[key] for key in expected} == expected
