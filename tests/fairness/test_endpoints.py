import numpy as np
import pandas as pd
import pytest

from kneefair_jax.errors import InputError
from kneefair_jax.fairness import endpoints, patient_table
from kneefair_jax.fairness.endpoints import Endpoint, EndpointSettings

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
    endpoint = next(e for e in endpoints.report_endpoints(settings or EndpointSettings()) if e.name == name)
    table = patient_table.table(cases, STRUCTURES)
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
