import html
import itertools
import re
import xml.etree.ElementTree as ET

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg

from kneefair_jax.report.figures import cohort_figures, forest, scatter, svg
from kneefair_jax.report.text import formatting


@pytest.fixture
def scores(report):
    return report["scores"]["dice"]


@pytest.fixture
def blocks(scores):
    return formatting.attribute_groups(scores["groups"], ["sex", "age"])


def height(text: str) -> float:
    return float(ET.fromstring(text).attrib["height"].removesuffix("pt"))


def test_every_figure_is_well_formed_named_and_the_same_twice(scores, blocks, curves):
    values = {"sex=female": np.linspace(0.8, 0.9, 30), "sex=male": np.linspace(0.85, 0.9, 500)}
    for draw in (
        lambda: forest.means(scores, blocks, "Dice", "one"),
        lambda: cohort_figures.distributions(values, blocks, "Dice", "one"),
        lambda: cohort_figures.heat_map(scores, blocks, "Dice", "one"),
        lambda: cohort_figures.curves(curves[:-1], "one"),
    ):
        text = draw()
        root = ET.fromstring(text)
        assert root.tag == "svg" and root.attrib["role"] == "img" and root.attrib["aria-label"]
        assert all(i.startswith("one-") for i in re.findall(r'\bid="([^"]+)"', text))
        assert text == draw()
        assert not re.search(r"#0[1-6]0[1-6]0[1-6]", re.sub(r"var\([^)]*\)", "", text))


def test_the_heat_map_prints_every_number(scores, blocks):
    text = cohort_figures.heat_map(scores, blocks, "Dice", "heat")
    for part in (scores, *scores["structures"].values()):
        for entry in part["groups"].values():
            assert formatting.number(entry["mean"]) in text


def test_the_forest_tells_ranked_worst_and_small_apart(scores, blocks):
    text = forest.means(scores, blocks, "Dice", "f", marked=["sex=female"])
    assert "var(--alert" not in forest.means(scores, blocks, "Dice", "f")
    assert text.count("var(--alert") and "var(--accent" in text and "fill: var(--paper" in text
    assert "Lowest: age missing, 0.911. Highest: sex male, age ≤50, 0.953." in text


def test_many_groups_make_a_taller_figure_not_smaller_letters(scores, blocks):
    entry = scores["groups"]["sex=male"]
    many = {"groups": {f"sex=s{i}": entry for i in range(60)}, "summaries": {}, "overall": scores["overall"]}
    tall = many | {"structures": {}}
    text = forest.means(tall, formatting.attribute_groups(tall["groups"], ["sex"]), "Dice", "f")
    assert height(text) > 60 * 12
    assert height(text) > 1.5 * height(forest.means(scores | {"structures": {}}, blocks, "Dice", "f"))


def test_large_groups_draw_only_their_outer_cases(blocks):
    draw = np.random.default_rng(0)
    few, many, most = (
        cohort_figures.distributions({"sex=male": draw.uniform(size=n)}, blocks, "Dice", "d").count("<use")
        for n in (400, 2_000, 50_000)
    )
    assert 400 <= few <= 430 and 200 <= many <= 230 and 400 <= most <= 430


def test_no_scores_at_all_is_still_a_figure():
    empty = {"mean": None, "interval": None, "patients": 0, "cases": 0}
    nothing = {"overall": empty, "groups": {"sex=male": empty}, "summaries": {}, "structures": {}}
    blocks = formatting.attribute_groups(nothing["groups"], ["sex"])
    assert "No group has a score." in forest.means(nothing, blocks, "Dice", "f")
    assert formatting.DASH in cohort_figures.heat_map(nothing, blocks, "Dice", "h")
    assert "Medians: ." not in cohort_figures.distributions({}, blocks, "Dice", "d")
    assert cohort_figures.curves([], "c").startswith("<svg")


def test_names_are_text_never_markup_or_formulas(scores):
    name = "sex=<b>$x^2$ & 膝"
    part = scores | {"groups": {name: scores["groups"]["sex=male"]}, "structures": {}}
    text = forest.means(part, formatting.attribute_groups(part["groups"], ["sex"]), "Dice", "f")
    assert "<b>$x^2$ & 膝" in "".join(ET.fromstring(text).itertext())


def test_placeholders_are_unlike_each_other():
    assert len(set(svg._VARIABLES)) == len(set(svg._VARIABLES.values())) == 6


def test_gaps_tell_which_pairs_differ_significantly(audited):
    scores = audited["scores"]["dice"]
    blocks = formatting.attribute_groups(scores["groups"], audited["cohort"]["attributes"])[:3]
    text = forest.gaps(scores, blocks, "Dice", "g")
    assert "significant: male vs female +0.021 [0.011, 0.031]." in text
    assert text.count("var(--alert") > 0 and "fill: var(--paper" in text
    for pair in scores["summaries"]["sex"]["pairs"]:  # outside the primary family
        pair["p_holm"] = None
    text = forest.gaps(scores, blocks, "Dice", "g")
    assert "significant: none." in text and "var(--alert" not in text


def test_a_heat_map_shades_what_is_worse(audited):
    scores = audited["scores"]["dice"]
    blocks = [
        block
        for block in formatting.attribute_groups(scores["groups"], ["sex", "race", "age"])
        if block.key == "sex"
    ]
    means = [scores["groups"][name]["mean"] for name in ("sex=male", "sex=female")]
    overall = scores["overall"]["mean"]
    whole = scores | {"structures": {}}
    for lower, words in (
        (False, f"shortfall below a structure's mean is {overall - min(means):.3f}"),
        (True, f"excess over a structure's mean is {max(max(means) - overall, 0):.3f}"),
    ):
        text = cohort_figures.heat_map(whole, blocks, "Dice", "h", lower_is_better=lower)
        assert words in html.unescape(text)


def test_a_heat_map_does_not_shade_groups_too_small_to_rank(audited):
    scores = audited["scores"]["dice"] | {"structures": {}}
    blocks = [
        block
        for block in formatting.attribute_groups(scores["groups"], ["sex", "race", "age"])
        if block.key == "sex"
    ]
    gap = scores["overall"]["mean"] - scores["groups"]["sex=female"]["mean"]
    scores["groups"]["sex=male"] |= {"mean": 0.1, "ranked": False}
    text = cohort_figures.heat_map(scores, blocks, "Dice", "h")
    assert f"shortfall below a structure's mean is {gap:.3f}" in html.unescape(text)
    for label, color in (("male", "muted"), ("0.100", "muted"), ("female", "ink")):
        (line,) = re.findall(rf"<text[^>]*>{label}</text>", text)
        assert f"fill: var(--{color}" in line


def test_groups_too_small_to_rank_are_hollow_and_not_joined(audited):
    scores = audited["scores"]["dice"]
    crossed = [formatting.attribute_groups(scores["groups"], ["sex", "race"])[-1]]
    small = "sex=female,race=Black"
    scores["groups"][small] |= {"mean": 0.5, "ranked": False}
    figure, texts = scatter.intersections_figure(scores, crossed, "Dice")
    lines = [line for line in figure.axes[0].lines if 0.5 in line.get_ydata()]
    assert [(line.get_linestyle(), line.get_markerfacecolor()) for line in lines] == [("None", svg.PAPER)]
    assert [text for text in texts if "not ranked" in text] == ["female, Black 0.500 (not ranked)"]


@pytest.mark.parametrize("panels", [1, 2])
def test_the_labels_of_long_levels_do_not_overlap(panels):
    levels = ["Native Hawaiian or Pacific Islander", "Non-Hispanic White", "Hispanic or Latino", "Black"]
    names = [*(f"race={level}" for level in levels), "sex=f", "sex=m"]
    names += [f"sex={sex},race={level}" for sex in "fm" for level in levels]
    scores = {"groups": {name: {"mean": 0.9, "interval": None, "ranked": True} for name in names}}
    crossed = [formatting.attribute_groups(names, ["sex", "race"])[-1]] * panels
    figure, _ = scatter.intersections_figure(scores, crossed, "Dice")
    FigureCanvasAgg(figure).draw()
    for axes in figure.axes:
        boxes = [label.get_window_extent() for label in axes.get_xticklabels()]
        assert len(boxes) == 4 and all(a.x1 < b.x0 for a, b in itertools.pairwise(boxes))


def test_lines_of_means_in_bins_of_equally_many():
    x, y = np.arange(12.0)[::-1], np.arange(12.0)
    assert scatter.binned(x, y) == ([2.5, 8.5], [8.5, 2.5])
    assert scatter.binned(x[:4], y[:4]) == ([], [])


def test_areas_are_summed_over_structures_and_unknown_ones_left_out(audited_cases):
    frame = scatter.areas(audited_cases, ["sex"], "dice")
    first = audited_cases[audited_cases["case_id"] == "case000"]
    assert frame.loc["case000", "area"] == pytest.approx(first["true_area_mm2"].sum() / 100)
    unknown = audited_cases.assign(true_area_mm2=np.nan)
    assert scatter.areas(unknown, ["sex"], "dice") is None
    assert scatter.areas(unknown.drop(columns="true_area_mm2"), ["sex"], "dice") is None


def test_the_alt_texts_have_the_numbers(audited):
    assert "sex from the mask 0.71, race from the image 0.55." in forest.aucs(
        audited["attribute_leakage"], "a"
    )
    curves = audited["calibration"]["curves"]
    alt = scatter.reliability(
        curves, formatting.attribute_groups(curves, ["sex", "race"]), {"sex=male": 0.871}, "r"
    )
    assert "male, slope 0.87, 0.69 at confidence 0.70" in alt
    crossed = [formatting.attribute_groups(audited["scores"]["dice"]["groups"], ["sex", "race"])[-1]]
    alt = scatter.intersections(audited["scores"]["dice"], crossed, "Dice", "i")
    assert "female, Black 0.920" in alt


def test_levels_keep_the_order_of_the_bins_where_the_first_group_lacks_one():
    names = ("age=<=50", "age=51-64", "age=>=65", "sex=female", "sex=male")
    pairs = ("female,age=51-64", "female,age=>=65", "male,age=<=50", "male,age=51-64", "male,age=>=65")
    names += tuple(f"sex={pair}" for pair in pairs)
    scores = {"groups": {name: {"mean": 0.9, "interval": None, "ranked": True} for name in names}}
    crossed = [formatting.attribute_groups(names, ["sex", "age"])[-1]]
    alt = scatter.intersections(scores, crossed, "Dice", "i")
    levels = [alt.index(f"male, {level} 0.900", alt.index("≥65")) for level in ("≤50", "51-64", "≥65")]
    assert levels == sorted(levels)
