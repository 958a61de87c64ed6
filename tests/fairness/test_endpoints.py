import json

import numpy as np
import pandas as pd
import pytest

from kneefair_jax import groups
from kneefair_jax.errors import InputError
from kneefair_jax.fairness import endpoints, patient_table, rates
from kneefair_jax.fairness.endpoints import Endpoint, EndpointSettings
from kneefair_jax.fairness.rates import Tally

STRUCTURES = ("femur", "tibia")
NAN = np.nan


def long(**columns) -> pd.DataFrame:
    """Two rows a case, femur and tibia; a column is a list of (femur, tibia) by case."""
    cases = len(next(iter(columns.values())))
    rows = {
        "case_id": np.repeat([f"c{i}" for i in range(cases)], 2),
        "patient_id": np.repeat([f"p{i}" for i in range(cases)], 2),
        "structure": STRUCTURES * cases,
    }
    return pd.DataFrame(rows | {name: np.ravel(values) for name, values in columns.items()})


def adverse(name: str, cases: pd.DataFrame, settings: EndpointSettings | None = None):
    settings = settings or EndpointSettings()
    endpoint = next(e for e in endpoints.report_endpoints(settings) if e.name == name)
    table = patient_table.table(cases, STRUCTURES, settings.failure_dice)
    return endpoints.adverse_cases(endpoint, cases, table, STRUCTURES)


def test_thresholds_are_parsed():
    assert endpoints.parse(["dice>=0.90", "hd95_mm <= 5"]) == (
        Endpoint("dice>=0.9", "dice", 0.9),
        Endpoint("hd95_mm<=5", "hd95_mm", 5.0),
    )
    assert endpoints.parse([]) == ()
    names = [endpoint.name for endpoint in endpoints.report_endpoints(EndpointSettings())]
    assert names == ["failure", "absent", "dice>=0.9", "hd95_mm<=5"]


@pytest.mark.parametrize(
    ("text", "remedy"),
    [
        ("dice", "dice>=0.9"),
        ("dice=0.9", "dice>=0.9"),
        ("dice>0.9", "dice>=0.9"),
        ("dice>=0_9", "dice>=0.9"),
        ("dice>=nan", "dice>=0.9"),
        ("dice>=-1", "dice>=0.9"),
        ("ece<=0.1", "scores: dice"),
        ("length>=1", "scores: dice"),
        ("dice<=0.9", "write dice>=0.9"),
        ("hd95_mm>=5", "write hd95_mm<=5"),
        ("dice>=0", "at most 1"),
        ("dice>=1.5", "at most 1"),
        ("assd_mm<=0", "above 0 mm"),
        (0.9, "dice>=0.9"),
    ],
)
def test_other_thresholds_are_refused_with_the_remedy(text, remedy):
    with pytest.raises(InputError, match="--endpoint") as refused:
        endpoints.parse([text])
    assert repr(text) in str(refused.value) and remedy in str(refused.value)


def test_settings_are_checked_under_their_own_names():
    endpoints.check(EndpointSettings(), "--failure-dice", "--endpoint")
    for value in (0, 1, -0.5, NAN, float("inf")):
        with pytest.raises(InputError, match="--failure-dice"):
            endpoints.check(EndpointSettings(value), "--failure-dice", "--endpoint")
    with pytest.raises(InputError, match="report.endpoints 'dice'"):
        endpoints.check(EndpointSettings(0.5, ("dice",)), "a", "report.endpoints")
    with pytest.raises(InputError, match="once"):
        endpoints.parse(["dice>=0.9", "dice>=0.90"])


def test_a_failure_is_any_structure_below_the_threshold():
    cases = long(dice=[(0.9, 0.5), (0.49, 0.9), (NAN, 0.8), (NAN, NAN), (0.0, NAN)])
    np.testing.assert_array_equal(
        adverse("failure", cases), [[0, 0, 0], [1, 1, 0], [0, NAN, 0], [NAN, NAN, NAN], [1, 1, NAN]]
    )
    assert adverse("failure", cases, EndpointSettings(0.85))[:, 0].tolist()[:3] == [1, 1, 1]


def test_a_score_that_was_stored_as_float32_reaches_its_threshold():
    at = float(np.float32(0.9))
    assert at < 0.9
    cases = long(dice=[(at, at), (0.8999, 0.95)])
    np.testing.assert_array_equal(adverse("dice>=0.9", cases), [[0, 0, 0], [1, 1, 0]])
    np.testing.assert_array_equal(adverse("failure", cases, EndpointSettings(0.9)), [[0, 0, 0], [1, 1, 0]])


def test_an_absent_prediction_has_no_area_and_a_miss_elsewhere_has():
    cases = long(
        dice=[(0.0, 0.9), (0.0, 0.8), (NAN, 0.9)], pred_area_mm2=[(0.0, 5.0), (7.0, 5.0), (0.0, NAN)]
    )
    np.testing.assert_array_equal(adverse("absent", cases), [[1, 1, 0], [0, 0, 0], [0, NAN, 0]])
    # Without areas nothing is known of a structure without overlap; where all overlap, none is absent.
    cases["pred_area_mm2"] = NAN
    assert "2 of the 2 structures" in adverse("absent", cases)
    np.testing.assert_array_equal(adverse("absent", long(dice=[(0.1, 0.9)])), [[0, 0, 0]])


def test_a_distance_is_missed_in_any_structure_and_without_overlap():
    cases = long(
        dice=[(0.9, 0.9), (0.9, 0.9), (0.9, 0.0), (0.0, 0.0), (0.9, 0.9), (NAN, 0.9)],
        hd95_mm=[(5.0, 1.0), (5.1, 1.0), (1.0, NAN), (NAN, NAN), (9.0, NAN), (NAN, 2.0)],
    )
    np.testing.assert_array_equal(
        adverse("hd95_mm<=5", cases),
        [[0, 0, 0], [1, 1, 0], [1, 0, 1], [1, 1, 1], [NAN, 1, NAN], [0, NAN, 0]],
    )


def test_a_distance_that_is_known_nowhere_gives_a_reason_and_no_rate():
    cases = long(dice=[(0.9, 0.0), (0.8, 0.9)], hd95_mm=[(NAN, NAN)] * 2)
    assert "hd95_mm" in adverse("hd95_mm<=5", cases)
    assert "hd95_mm" in adverse("hd95_mm<=5", cases.drop(columns="hd95_mm"))
    # The distance of a failure alone would make every patient who counts a miss.
    cases.loc[1, "hd95_mm"] = 80.0
    assert "hd95_mm" in adverse("hd95_mm<=5", cases)


def cohort() -> pd.DataFrame:
    """60 patients with two cases: 40 A of whom 8 fail in one tibia, 15 B, 3 C of whom 2 fail, 2 of unknown race."""
    levels = ["A"] * 40 + ["B"] * 15 + ["C"] * 3 + [""] * 2
    failed = {*range(8), 55, 56}
    rows = [
        {
            "case_id": f"c{i:02d}{side}",
            "patient_id": f"p{i:02d}",
            "structure": structure,
            "race": race,
            "dice": 0.3 if i in failed and (side, structure) == ("l", "tibia") else 0.95,
            "hd95_mm": 2.0 if i < 50 else 6.0,
            "pred_area_mm2": 9.0,
        }
        for i, race in enumerate(levels)
        for side in "lr"
        for structure in STRUCTURES
    ]
    table = pd.DataFrame(rows)
    return table.assign(race=groups.categorical(table["race"]))


def of(cases, settings=None, minimum=10, attributes=("race",)):
    how = {"min_group_patients": minimum, "draws": 199, "seed": 0}
    return endpoints.endpoint_rates(cases, STRUCTURES, list(attributes), settings=settings, **how).to_dict()


def test_counts_rates_and_tests_by_group():
    result = of(cohort())
    assert result["failure_dice"] == 0.5
    assert list(result["endpoints"]) == ["failure", "absent", "dice>=0.9", "hd95_mm<=5"]
    failure = result["endpoints"]["failure"]
    assert (failure["count"], failure["overall"]["n"], failure["reason"]) == (10, 60, None)
    counts = {name: (group["count"], group["rate"]["n"]) for name, group in failure["groups"].items()}
    assert counts == {"race=A": (8, 40), "race=B": (0, 15), "race=C": (2, 3), "race=missing": (0, 2)}
    assert [group["ranked"] for group in failure["groups"].values()] == [True, True, False, False]
    assert failure["groups"]["race=B"]["rate"]["interval"] == pytest.approx((0, 1 - 0.025 ** (1 / 15)))
    race = failure["comparisons"]["race"]
    assert race["test"]["p"] == pytest.approx(rates.fisher([Tally(8, 40), Tally(0, 15)]))
    assert list(race["unranked"]) == ["race=C"]
    assert race["unranked"]["race=C"]["p"] == pytest.approx(rates.fisher([Tally(2, 3), Tally(8, 55)]))
    assert failure["structures"]["femur"]["overall"]["estimate"] == 0
    assert failure["structures"]["tibia"]["groups"]["race=A"]["count"] == 8
    assert failure["structures"]["tibia"]["tests"]["race"]["p_adjusted"] == pytest.approx(
        min(1, 2 * race["test"]["p"])
    )
    assert result["endpoints"]["absent"]["count"] == 0


def test_a_threshold_counts_patients_who_reach_it_in_every_case_and_structure():
    result = of(cohort(), EndpointSettings(0.2, ("dice>=0.9", "hd95_mm<=2")))["endpoints"]
    assert result["failure"]["count"] == 0
    assert result["dice>=0.9"]["groups"]["race=A"]["count"] == 32
    assert result["hd95_mm<=2"]["count"] == 50 and not result["hd95_mm<=2"]["adverse"]
    assert result["hd95_mm<=2"]["structures"]["tibia"]["groups"]["race=B"]["count"] == 10


def test_what_cannot_be_known_is_left_out_with_its_reason():
    cases = cohort().assign(hd95_mm=np.nan)
    block = of(cases)["endpoints"]["hd95_mm<=5"]
    assert "hd95_mm" in block["reason"] and block["overall"] is None and block["groups"] == {}


def test_pairs_of_attributes_are_shown_and_not_tested_and_all_of_it_is_json():
    cases = cohort()
    cases["sex"] = groups.categorical(pd.Series(np.where(cases["case_id"] < "c30", "f", "m")))
    result = of(cases, attributes=("sex", "race"))
    failure = result["endpoints"]["failure"]
    assert failure["groups"]["sex=f,race=A"]["count"] == 8
    assert list(failure["comparisons"]) == ["sex", "race"]
    assert list(failure["structures"]["tibia"]["groups"]) == [
        name for name in failure["groups"] if "," not in name
    ]
    json.dumps(result, allow_nan=False)
    assert list(result["small_groups"]["dice"]) == ["race"]


def test_other_names_of_the_groups_change_no_number():
    cases = cohort()
    renamed = cases.assign(
        race=groups.categorical(cases["race"].astype(str).map({"A": "z", "B": "y", "C": "x", "missing": ""}))
    )
    first, second = of(cases)["endpoints"]["failure"], of(renamed)["endpoints"]["failure"]
    names = {"race=A": "race=z", "race=B": "race=y", "race=C": "race=x", "race=missing": "race=missing"}
    assert {names[name]: group for name, group in first["groups"].items()} == second["groups"]
    assert first["comparisons"]["race"]["test"] == second["comparisons"]["race"]["test"]


def test_a_patient_in_two_groups_counts_in_each():
    cases = cohort()
    cases["visit"] = groups.categorical(cases["case_id"].str[-1])
    groups_of = of(cases, attributes=("visit",))["endpoints"]["failure"]["groups"]
    assert {name: (g["count"], g["rate"]["n"]) for name, g in groups_of.items()} == {
        "visit=l": (10, 60),
        "visit=r": (0, 60),
    }
