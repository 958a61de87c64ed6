import re
import xml.etree.ElementTree as ET

import pytest

from kneefair_jax.report.figures import study_figures


def over(value, half=0.004):
    return {"value": value, "seeds": half and [value - half, value + half]}


def method(mean, worst, gap, front, half=0.004):
    return {
        "mean": over(mean, half),
        "worst": over(worst, half),
        "gap": over(gap, half),
        "front": front and {"worst": front[0], "gap": front[1]},
    }


def comparison(half=0.004):
    return {
        "baseline": "erm",
        "oracle": "oracle",
        "pair": {"best": "race=A", "worst": "race=B"},
        "groups": {name: {"patients": 30, "ranked": True} for name in ("race=A", "race=B")},
        "methods": {
            "erm": method(0.95, 0.90, 0.05, (True, True), half),
            "dro": method(0.94, 0.92, 0.02, (True, False), half),
            "bad": method(0.93, 0.89, 0.06, (False, False), half),
            "oracle": method(0.95, 0.94, 0.01, None, half),
        },
    }


@pytest.fixture
def study():
    return {
        "attribute": "race",
        "methods": {"dro": {"label": "<b>$x$ & DRO"}},
        "comparison": comparison(),
        "sweep": {
            "label": "share of B",
            "points": [{"share": share, "comparison": comparison()} for share in (0.4, 0.05)],
        },
    }


@pytest.mark.parametrize("draw", [study_figures.plane, study_figures.sweep])
def test_well_formed_named_and_the_same_twice(study, draw):
    text = draw(study, "one")
    root = ET.fromstring(text)
    assert root.attrib["role"] == "img" and root.attrib["aria-label"]
    assert all(i.startswith("one-") for i in re.findall(r'\bid="([^"]+)"', text))
    assert text == draw(study, "one")
    for name in ("erm", "<b>$x$ & DRO", "bad", "oracle"):
        assert name in "".join(root.itertext())
    assert not re.search(r"#0[1-6]0[1-6]0[1-6]", re.sub(r"var\([^)]*\)", "", text))


def test_the_plane_names_its_fronts_and_hollows_the_rest(study):
    text = study_figures.plane(study, "one")
    alt = ET.fromstring(text).attrib["aria-label"]
    assert alt.endswith("Worst group's mean: <b>$x$ & DRO and erm. Gap: race A minus race B: erm.")
    assert "fill: var(--paper" in text
    methods = study["comparison"]["methods"].values()
    for entry in methods:
        entry["front"] = entry["front"] and {"worst": True, "gap": True}
    assert "fill: var(--paper" not in study_figures.plane(study, "one")


def test_ticks_are_for_a_reader(study):
    study["sweep"]["points"][0]["share"] = 1 / 12
    text = "".join(ET.fromstring(study_figures.sweep(study, "one")).itertext())
    assert "8.33 %" in text and "8.333" not in text


def test_one_seed_has_no_whiskers(study):
    whiskers = study_figures.sweep(study, "one").count("opacity: 0.7")
    assert whiskers == 2 * 4
    study["sweep"]["points"] = [{"share": 0.1, "comparison": comparison(half=None)}]
    assert study_figures.sweep(study, "one").count("opacity: 0.7") == 0


def test_a_method_without_a_gap_or_a_point_is_left_out(study):
    study["sweep"]["points"][0]["comparison"]["methods"]["bad"]["gap"]["value"] = None
    del study["sweep"]["points"][1]["comparison"]["methods"]["bad"]
    assert "bad" not in study_figures.sweep(study, "one")
    study["comparison"]["methods"]["bad"]["gap"]["value"] = None
    assert "bad" not in study_figures.plane(study, "one")


def test_the_sweep_runs_from_small_to_large(study):
    study["sweep"]["points"][1]["comparison"]["methods"]["erm"]["gap"]["value"] = 0.09
    assert "erm from 0.090 to 0.050" in ET.fromstring(study_figures.sweep(study, "one")).attrib["aria-label"]


def test_the_sweep_says_which_way_its_sign_points(study):
    assert "Gap: race A minus race B" in "".join(ET.fromstring(study_figures.sweep(study, "one")).itertext())


def test_more_methods_than_markers_are_numbered(study):
    """The trap: a marker that two methods share."""
    assert "erm" in labels(study) and "1" not in labels(study)
    methods = study["comparison"]["methods"]
    methods |= {f"m{i}": method(0.9 + 0.001 * i, 0.9, 0.03, (False, False)) for i in range(10)}
    texts = labels(study)
    for i, name in enumerate(methods, 1):
        assert texts.count(str(i)) == 2  # in either panel
        assert f"{i} {study['methods'].get(name, {}).get('label', name)}" in texts


def labels(study):
    root = ET.fromstring(study_figures.plane(study, "one"))
    return [element.text for element in root.iter() if element.tag.endswith("text")]


def test_a_gap_turned_round_shows_where_zero_is(study):
    zero = re.compile(r"stroke: var\(--muted[^\"]*stroke-width: 0\.8\b")
    assert not zero.search(study_figures.plane(study, "one"))
    study["comparison"]["methods"]["dro"]["gap"] = over(-0.02)
    assert len(zero.findall(study_figures.plane(study, "one"))) == 1
