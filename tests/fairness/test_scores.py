import json

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from kneefair_jax import groups
from kneefair_jax.errors import InputError
from kneefair_jax.fairness import hypothesis_tests
from kneefair_jax.fairness import scores as module

STRUCTURES = ("femur", "tibia")


def table(seed=0, patients=12):
    """Two knees a patient, long; the last patient's age is missing."""
    rng = np.random.default_rng(seed)
    rows = []
    for p in range(patients):
        about = {"sex": "fm"[p % 2], "age": "" if p == patients - 1 else ["young", "old"][p % 3 == 0]}
        for side in "LR":
            for structure in STRUCTURES:
                value = rng.uniform(0.5, 1)
                rows.append(
                    {
                        "case_id": f"p{p:02d}{side}",
                        "patient_id": f"p{p:02d}",
                        "structure": structure,
                        **about,
                        "dice": value,
                        "iou": value / (2 - value),
                    }
                )
    frame = pd.DataFrame(rows)
    for name in ("sex", "age"):
        frame[name] = groups.categorical(frame[name])
    return frame


def scores(frame, minimum=3, seed=0):
    return module.scores(frame, STRUCTURES, ("sex", "age"), min_group_patients=minimum, draws=200, seed=seed)


def test_the_unit_is_the_patient():
    frame = table()
    frame = frame[~(frame["case_id"] == "p00L")]  # one patient with one knee
    result = scores(frame)["dice"]
    by_case = frame.groupby(["patient_id", "case_id"])["dice"].mean()
    by_patient = by_case.groupby("patient_id").mean()
    np.testing.assert_allclose(result["overall"]["mean"], by_patient.mean())
    assert abs(by_case.mean() - by_patient.mean()) > 1e-6
    assert (result["overall"]["patients"], result["overall"]["cases"]) == (12, 23)
    women = frame["sex"] == "f"
    expected = (
        frame[women].groupby(["patient_id", "case_id"])["dice"].mean().groupby("patient_id").mean().mean()
    )
    np.testing.assert_allclose(result["groups"]["sex=f"]["mean"], expected)
    femur = frame[frame["structure"] == "femur"].groupby("patient_id")["dice"].mean().mean()
    np.testing.assert_allclose(result["structures"]["femur"]["overall"]["mean"], femur)


def test_summaries_by_hand():
    result = scores(table())["dice"]
    a, b = (result["groups"][f"sex={sex}"]["mean"] for sex in "fm")
    summary = result["summaries"]["sex"]
    np.testing.assert_allclose(summary["gap"]["value"], abs(a - b))
    np.testing.assert_allclose(summary["worst"]["value"], 1 - min(a, b))
    assert summary["worst"]["group"] == ("sex=f" if a < b else "sex=m")
    np.testing.assert_allclose(summary["sd"]["value"], abs(a - b) / 2)
    np.testing.assert_allclose(summary["ser"]["value"], (1 - min(a, b)) / (1 - max(a, b)))
    overall = result["overall"]["mean"]
    np.testing.assert_allclose(summary["es"]["value"], overall / (1 + abs(overall - a) + abs(overall - b)))


def test_missing_is_shown_and_never_ranked_nor_folded():
    """The trap: an unknown attribute that falls into group 0."""
    result = scores(table(), minimum=1)["dice"]
    missing = result["groups"]["age=missing"]
    assert missing["patients"] == 1 and missing["ranked"] is False and missing["interval"] is None
    assert missing["unranked"] == "not a group: unknown"
    counts = sum(result["groups"][f"age={age}"]["patients"] for age in ("young", "old"))
    assert counts == 11


def test_small_groups_are_shown_but_not_ranked():
    result = scores(table(), minimum=5)["dice"]
    assert result["groups"]["age=old"]["ranked"] is False
    assert result["groups"]["age=old"]["unranked"] == "too few to rank (n < 5)"
    assert result["groups"]["age=old"]["mean"] is not None
    summary = result["summaries"]["age"]
    assert all(summary[key] == {"value": None, "interval": None} for key in ("gap", "sd", "es"))
    assert summary["worst"]["group"] is None and summary["ser"]["value"] is None
    assert summary["test"] is summary["rank"] is summary["detectable"] is None and summary["pairs"] == []


def test_a_structure_that_a_group_never_has_is_null():
    frame = table()
    frame.loc[(frame["sex"] == "f") & (frame["structure"] == "tibia"), ["dice", "iou"]] = np.nan
    tibia = scores(frame)["dice"]["structures"]["tibia"]
    assert tibia["groups"]["sex=f"] == {
        "mean": None,
        "interval": None,
        "patients": 0,
        "cases": 0,
        "ranked": False,
        "unranked": "too few to rank (n < 3)",
    }
    assert tibia["summaries"]["sex"]["gap"]["value"] is None
    result = module.scores(
        frame,
        STRUCTURES,
        ("sex", "age"),
        min_group_patients=3,
        draws=50,
        seed=0,
        equivalence_margin={"dice": 0.9},
    )["dice"]["summaries"]["sex"]
    message = [text for text in result["warnings"] if text.startswith("tibia has no score in sex=f")]
    assert len(message) == 1 and result["equivalence"]["reason"] == message[0]
    assert result["equivalence"]["equivalent"] is False


def test_a_structure_out_of_view_in_one_group_makes_no_gap():
    """Both groups score alike in every bone; half of the men's fibulas, which score lower, are out of view."""
    means = {"femur": 0.96, "tibia": 0.95, "fibula": 0.8}
    frame = pd.DataFrame(
        [
            {
                "case_id": f"{sex}{k:02d}",
                "patient_id": f"{sex}{k:02d}",
                "sex": sex,
                "structure": structure,
                "dice": np.nan
                if sex == "m" and structure == "fibula" and k % 4 > 1
                else mean + 0.004 * (k % 2),
            }
            for sex in "fm"
            for k in range(40)
            for structure, mean in means.items()
        ]
    )
    frame["sex"] = groups.categorical(frame["sex"])
    plain = (
        frame.groupby(["sex", "case_id"], observed=True)["dice"].mean().groupby("sex", observed=True).mean()
    )
    assert plain["m"] - plain["f"] > 0.025
    result = module.scores(frame, list(means), ["sex"], min_group_patients=5, draws=99, seed=0)["dice"]
    summary = result["summaries"]["sex"]
    for value in (summary["gap"]["value"], summary["gap_without_failures"]["value"]):
        assert value == pytest.approx(0, abs=1e-12)
    assert summary["test"]["p"] > 0.5
    (warning,) = summary["warnings"]
    assert "fibula in 20 of 40 of sex=m" in warning and "sex=f" not in warning


def test_the_order_of_rows_changes_nothing():
    frame = table()
    result = scores(frame)
    assert result == scores(frame.sample(frac=1, random_state=0))
    assert result != scores(frame, seed=9)


def test_a_perfect_score_has_no_ratio():
    frame = table()
    frame.loc[frame["sex"] == "f", ["dice", "iou"]] = 1.0
    assert scores(frame)["dice"]["summaries"]["sex"]["ser"]["value"] is None


def test_a_level_that_merely_begins_like_missing_is_a_group():
    frame = table()
    frame["sex"] = frame["sex"].cat.rename_categories({"f": "missing teeth", "m": "teeth"})
    result = scores(frame)["dice"]
    assert result["groups"]["sex=missing teeth"]["ranked"] and result["summaries"]["sex"]["gap"]["value"]


def test_other_groups_do_not_move_a_group_s_interval():
    frame = table()
    with_age = scores(frame)["dice"]["groups"]["sex=f"]
    separate = module.scores(frame, STRUCTURES, ("sex",), min_group_patients=3, draws=200, seed=0)
    assert separate["dice"]["groups"]["sex=f"] == with_age


def test_two_knees_are_one_patient():
    """Every case once more, scored the same: as many patients, so the same numbers but for the count of cases."""
    frame = table()
    again = frame.assign(case_id=frame["case_id"] + "again")
    single, twice = scores(frame), scores(pd.concat([frame, again]))
    assert twice["dice"]["overall"]["cases"] == 2 * single["dice"]["overall"]["cases"]
    for name in ("sex", "age", "sex,age"):
        first_result, second_result = (result["dice"]["summaries"][name] for result in (single, twice))
        assert first_result["gap"]["interval"] == pytest.approx(second_result["gap"]["interval"])
        assert (
            first_result["test"] == pytest.approx(second_result["test"])
            if first_result["test"]
            else second_result["test"] is None
        )


def test_every_score_of_the_table_is_there():
    frame = table()
    errors = 1 - frame["dice"]
    frame = frame.assign(hd95_mm=30 * errors, assd_mm=10 * errors, nsd=1 - errors / 2, ece=np.nan)
    result = scores(frame)
    assert list(result) == ["dice", "iou", "hd95_mm", "assd_mm", "nsd"]
    distance = result["hd95_mm"]["summaries"]["sex"]
    assert distance["worst"]["group"] == result["dice"]["summaries"]["sex"]["worst"]["group"]
    means = [result["hd95_mm"]["groups"][f"sex={sex}"]["mean"] for sex in "fm"]
    assert distance["worst"]["value"] == pytest.approx(max(means))
    assert distance["es"]["value"] is None and result["nsd"]["summaries"]["sex"]["es"]["value"]


def test_corrections():
    result = scores(table(patients=24))["dice"]
    raw = {key: entry["test"]["p"] for key, entry in result["summaries"].items() if entry["test"]}
    assert set(raw) == {"sex", "age", "sex,age"}
    corrected = {key: result["summaries"][key]["test"]["p_holm"] for key in raw}
    assert corrected == pytest.approx(
        hypothesis_tests.holm({key: raw[key] for key in ("sex", "age")}) | {"sex,age": None}
    )
    sex = result["summaries"]["sex"]
    assert sex["pairs"][0]["p_holm"] == pytest.approx(sex["test"]["p_holm"])
    for key in ("sex", "age"):
        assert all(pair["p"] <= pair["p_holm"] for pair in result["summaries"][key]["pairs"])
    assert sex["test"]["p_bh"] is None
    explored = [
        result["structures"][structure]["summaries"][key]["test"] for structure in STRUCTURES for key in raw
    ]
    expected = stats.false_discovery_control([test["p"] for test in explored])
    assert [test["p_bh"] for test in explored] == pytest.approx(expected.tolist())
    assert all(test["p_holm"] is None for test in explored)


def test_a_structure_without_scores_is_null():
    frame = table()
    frame.loc[frame["structure"] == "tibia", ["dice", "iou"]] = np.nan
    tibia = scores(frame)["dice"]["structures"]["tibia"]
    assert tibia["overall"]["mean"] is None and tibia["summaries"]["sex"]["gap"]["value"] is None


def test_a_patient_who_changes_group_causes_a_warning():
    frame = table()
    older = frame["case_id"] == "p00R"
    frame["age"] = frame["age"].where(~older, "young" if frame["age"][0] == "old" else "old")
    summary = scores(frame)["dice"]["summaries"]
    assert any("1 patient has cases in more than one" in text for text in summary["age"]["warnings"])
    assert not any("more than one" in text for text in summary["sex"]["warnings"])


def test_the_report_is_plain_json():
    json.dumps(scores(table()), allow_nan=False)
    delta = {"dice": 0.1}
    result = module.scores(
        table(), (), ("sex",), min_group_patients=3, draws=50, seed=0, equivalence_margin=delta
    )
    json.dumps(result, allow_nan=False)
    assert result["dice"]["summaries"]["sex"]["equivalence"]["delta"] == 0.1
    assert result["iou"]["summaries"]["sex"]["equivalence"] is None


@pytest.mark.parametrize("delta", [{"dcie": 0.1}, {"dice": 0.0}, {"dice": float("nan")}])
def test_a_margin_that_makes_no_sense_is_refused(delta):
    with pytest.raises(InputError, match="give a margin above 0"):
        module.scores(
            table(), STRUCTURES, ("sex",), min_group_patients=3, draws=50, seed=0, equivalence_margin=delta
        )


def test_equivalence_needs_every_structure():
    """A femur 0.03 better and a tibia 0.03 worse cancel in the mean."""
    rows = [
        {
            "case_id": f"c{p}",
            "patient_id": f"p{p}",
            "structure": structure,
            "sex": "fm"[p % 2],
            "dice": 0.9 + 0.03 * (p % 2) * sign + 0.0001 * (p // 2 % 3),
        }
        for p in range(1200)
        for structure, sign in (("femur", 1), ("tibia", -1))
    ]
    frame = pd.DataFrame(rows)
    frame["sex"] = groups.categorical(frame["sex"])
    result = module.scores(
        frame,
        ("femur", "tibia"),
        ("sex",),
        min_group_patients=5,
        draws=99,
        seed=0,
        equivalence_margin={"dice": 0.02},
    )["dice"]
    verdict = result["summaries"]["sex"]["equivalence"]
    assert (
        not verdict["equivalent"]
        and verdict["reason"].startswith("femur: ")
        and "; tibia: " in verdict["reason"]
    )
    assert verdict["intervals"][0] == pytest.approx([0, 0], abs=0.01)


def equivalences(attributes, minimum=10, **columns):
    """Of the Dice of 200 patients, by attribute: sex alternates, region is the same for pairs of patients."""
    patients = np.arange(200)
    frame = pd.DataFrame(
        {
            "case_id": [f"c{p}" for p in patients],
            "patient_id": [f"p{p}" for p in patients],
            "structure": "femur",
            "sex": groups.categorical(pd.Series(np.array(["f", "m"])[patients % 2])),
            "region": groups.categorical(pd.Series(np.array(["a", "b"])[patients // 2 % 2])),
            "rare": groups.categorical(pd.Series(np.where(patients < 5, "yes", "no"))),
            "dice": 0.9 + 0.001 * (patients % 7),
        }
    ).assign(**columns)
    result = module.scores(
        frame,
        ("femur",),
        attributes,
        min_group_patients=minimum,
        draws=50,
        seed=0,
        equivalence_margin={"dice": 0.07},
    )["dice"]["summaries"]
    return {key: summary["equivalence"] for key, summary in result.items()}


@pytest.mark.parametrize(
    ("attributes", "confidence"),
    [
        (("sex",), 0.9),
        (("sex", "rare"), 0.9),  # one group of `rare` is too small to be ranked
        (("sex", "region"), 0.95),
        (("sex", "region", "rare"), 0.95),
    ],
)
def test_the_level_of_equivalence_is_shared_by_attributes_with_ranked_groups(attributes, confidence):
    by_attribute = equivalences(attributes)
    assert [first_result["confidence"] for first_result in by_attribute.values()] == pytest.approx(
        [confidence] * len(by_attribute)
    )
    assert by_attribute["sex"]["equivalent"] is True
    limit = 1 - ((1 - confidence) / 2) ** (1 / 100)  # Clopper-Pearson's, of 0 of 100
    assert by_attribute["sex"]["failure_intervals"][0] == pytest.approx((-limit, limit))


def test_equivalence_needs_the_failure_rate():
    """6 of 100 women failed just below the threshold: the mean hardly moves."""
    patients = np.arange(200)
    dice = np.where((patients % 2 == 0) & (patients < 12), 0.49, 0.9 + 0.001 * (patients % 7))
    result = equivalences(("sex",), dice=dice)["sex"]
    assert max(map(abs, result["intervals"][0])) < 0.07 < result["failure_intervals"][0][1]
    assert result["equivalent"] is False
    assert result["reason"] == (
        "difference of failure rates: the interval of sex=f minus sex=m reaches beyond the margin"
    )


def test_the_order_of_structures_changes_no_number():
    frame = table()
    frame.loc[frame["case_id"] == "p03L", "dice"] = (
        0.1  # so that patterns of failures differ between structures
    )
    first_result = scores(frame)["dice"]
    second_result = module.scores(
        frame, STRUCTURES[::-1], ("sex", "age"), min_group_patients=3, draws=200, seed=0
    )["dice"]
    for key in ("sex", "age"):
        assert second_result["summaries"][key]["test"] == pytest.approx(
            first_result["summaries"][key]["test"]
        )
        for structure in STRUCTURES:
            first, second = (
                part["structures"][structure]["summaries"][key]["test"]
                for part in (first_result, second_result)
            )
            assert first == second
