import functools
import json
import re
from collections.abc import Iterator

import numpy as np
import pandas as pd
import pytest
from statsmodels.stats.multitest import multipletests

from kneefair_jax import groups
from kneefair_jax.fairness import family
from kneefair_jax.fairness.family import Primary
from kneefair_jax.report import build, csv_tables, page
from kneefair_jax.report.text import failures, summary, terminal

STRUCTURES = ("femur", "tibia")


pytestmark = pytest.mark.usefixtures("without_drawing")


def cases(patients: int = 96) -> pd.DataFrame:
    """Long table: Dice lower by race alone, which fails more as well; HD95 higher by sex; 4 patients of age 80."""
    rng = np.random.default_rng(0)
    about = pd.DataFrame(
        {
            "case_id": [f"c{p:02d}" for p in range(patients)],
            "patient_id": [f"p{p:02d}" for p in range(patients)],
            "sex": groups.categorical(pd.Series(["fm"[p % 2] for p in range(patients)])),
            "race": groups.categorical(pd.Series(["BW"[p // 2 % 2] for p in range(patients)])),
            "age": groups.categorical(
                pd.Series(["80" if p < 4 else ("50", "60")[p // 4 % 2] for p in range(patients)])
            ),
        }
    )
    table = about.merge(pd.DataFrame({"structure": STRUCTURES}), how="cross")
    black, woman = (table["race"] == "B").to_numpy(), (table["sex"] == "f").to_numpy()
    dice = 0.93 - 0.05 * black + rng.normal(0, 0.01, len(table))
    dice[black & (rng.random(len(table)) < 0.25)] = 0.2
    return table.assign(
        dice=dice,
        hd95_mm=2 + woman + rng.normal(0, 0.3, len(table)),
        true_area_mm2=50.0,
        pred_area_mm2=45.0,
    )


@functools.cache
def report_of(attributes=("sex", "race", "age"), **options):
    table = cases()
    about = table.drop_duplicates("case_id")[["case_id", "patient_id", "sex", "race", "age"]]
    return build.build_report(
        table,
        about.reset_index(drop=True),
        build.Analysis(STRUCTURES, list(attributes), draws=999, **options),
        run={"config": None},
    )


@pytest.fixture(scope="module")
def without_race():
    return report_of(primary=Primary("dice", ("sex", "age")))


def members(report):
    return {(m["kind"], m["attribute"], m["group"]): m for m in report["primary"]["hypotheses"]}


def test_an_attribute_outside_changes_no_corrected_p_inside(without_race):
    """As if the report were not by race at all, and Holm's correction by another library."""
    alone = report_of(("sex", "age"))
    assert members(without_race) == members(alone)
    kinds = [kind for kind, *_ in members(alone)]
    assert sorted(kinds) == sorted(
        [family.MEAN] * 2
        + [family.FAILURE] * 2
        + [family.SMALL_MEAN, family.SMALL_FAILURE, family.INTERACTION]
    )
    p, p_adjusted = zip(*((m["p"], m["p_adjusted"]) for m in members(alone).values()), strict=True)
    np.testing.assert_allclose(p_adjusted, multipletests(p, method="holm")[1])
    for key in ("sex", "age"):
        assert without_race["scores"]["dice"]["summaries"][key] == alone["scores"]["dice"]["summaries"][key]
    test = without_race["scores"]["dice"]["summaries"]["sex"]["test"]
    assert test["p_holm"] == members(alone)[family.MEAN, "sex", ""]["p_adjusted"]


def test_what_lies_outside_has_no_corrected_p_and_is_exploratory(without_race):
    outside = without_race["scores"]["dice"]["summaries"]["race"]
    assert outside["test"]["p"] <= 0.005 and outside["test"]["p_holm"] is None
    assert [pair["p_holm"] for pair in outside["pairs"]] == [None]
    failed = without_race["rates"]["endpoints"]["failure"]["comparisons"]["race"]
    assert failed["test"]["p"] < 0.01 and failed["test"]["p_adjusted"] is None
    assert failed["pairs"][0]["difference"]["p_adjusted"] is None
    crossed = without_race["interactions"]
    assert {key for key in crossed if crossed[key]["dice"]["p_holm"] is None} == {"sex,race", "race,age"}
    assert {verdict.groups.key: verdict.kind for verdict in summary.verdicts(without_race)} == {
        "sex": "open",
        "race": "exploratory",
        "age": "open",
    }


def test_nothing_outside_is_claimed_on_the_page_or_terminal(without_race):
    claimed, silent = report_of(), without_race
    assert "significant" in " ".join(s for s in failures.sentences(claimed) if "by race" in s)
    assert "the gap in mean Dice by race" in " ".join(summary.paragraphs(claimed))
    by_race = [s for s in failures.sentences(silent) if "by race" in s]
    assert len(by_race) == 1 and "exploratory" in by_race[0] and "significant" not in by_race[0]
    assert "statistically significant" not in " ".join(summary.paragraphs(silent)).replace(
        "no gap in mean Dice between ranked groups is statistically significant", ""
    )
    pages = [page.page(page.plain(one), cases(), [], []) for one in (claimed, silent)]
    by_race = [re.findall(r'<th scope="row">B vs W</th>.*?</tr>', html, re.DOTALL) for html in pages]
    assert ['class="mean"' in "".join(rows) for rows in by_race] == [True, False]
    (line,) = [line for line in terminal.scores(silent).splitlines() if line.startswith("gap by race:")]
    assert line.endswith(", exploratory")
    (line,) = [line for line in terminal.scores(claimed).splitlines() if line.startswith("gap by race:")]
    assert "after Holm" in line


def test_another_score_can_be_primary():
    report = report_of(primary=Primary("hd95_mm"))
    assert report["primary"]["score"] == "hd95_mm"
    p_holm = report["scores"]["hd95_mm"]["summaries"]["sex"]["test"]["p_holm"]
    assert p_holm == members(report)[family.MEAN, "sex", ""]["p_adjusted"] < 0.05
    verdicts = {verdict.groups.key: verdict for verdict in summary.verdicts(report)}
    assert verdicts["sex"].kind == "significant" and verdicts["race"].kind == "open"
    assert (verdicts["sex"].best, verdicts["sex"].worst) == ("sex=m", "sex=f")
    words = " ".join(summary.paragraphs(report))
    assert "mean HD95 (mm) by sex" in words and "f > m" in words and "mean Dice" not in words
    html = page.page(page.plain(report), cases(), [], [])
    assert "HD95 (mm) by group" in html and "Dice by group, exploratory" in html
    assert terminal.scores(report).splitlines()[0].split() == [
        "patients",
        "HD95",
        "(mm)",
        "95",
        "%",
        "interval",
    ]


def keys_of(value) -> Iterator[str]:
    if isinstance(value, dict):
        yield from value
        for item in value.values():
            yield from keys_of(item)
    elif isinstance(value, list):
        for item in value:
            yield from keys_of(item)


def test_without_intersections_no_pair_of_attributes_is_left():
    both, alone = (
        json.loads(json.dumps(page.plain(report))) for report in (report_of(), report_of(intersections=False))
    )
    assert any("," in key for key in keys_of(both)) and not any("," in key for key in keys_of(alone))
    assert alone["interactions"] == {} and {m[0] for m in members(alone)} == {
        *(family.MEAN, family.FAILURE, family.SMALL_MEAN, family.SMALL_FAILURE)
    }
    assert not any("," in row["group"] for row in alone["cohort"]["table"])
    assert alone["model"]["dice"]["formula"] == "dice ~ sex + race + age"
    for report, times in ((both, True), (alone, False)):
        tables = csv_tables.tables(report)
        assert any(',"sex,race",' in text for text in tables.values()) == times
        html = page.page(report, cases(), [], [])
        assert ("sex \N{MULTIPLICATION SIGN} race" in html) == ("Interactions of attributes" in html) == times
        assert ("by two attributes" in html) == times and ("of two attributes" in html) == times
    assert (
        both["scores"]["dice"]["summaries"]["sex"]["gap"]
        == alone["scores"]["dice"]["summaries"]["sex"]["gap"]
    )


def test_an_external_cohort_is_never_bold():
    report = page.plain(report_of())
    shared = {name: report[name] for name in ("scores", "rates", "pooled")}
    report["external"] = shared | {"structures": STRUCTURES, "resolution": "working"}
    report = page.plain(report)
    html = page.page(report, cases(), [], [])
    inside, outside = re.split(r"<h2[^>]*>External cohort</h2>", html)
    row = r'<th scope="row">(?:B vs W|race)</th>.*?</tr>'
    assert ['class="mean"' in "".join(re.findall(row, part, re.DOTALL)) for part in (inside, outside)] == [
        True,
        False,
    ]


def test_levels_in_a_note_are_written_as_in_the_tables():
    levels = pd.Series(["<=50", ">=65"], name="age").astype("category")
    assert build._count_levels(levels, np.array([True, True])) == "age: ≤50 1, ≥65 1"


def test_what_a_reader_must_know_first():
    cases = pd.DataFrame({"case_id": list("abcd"), "sex": groups.categorical(pd.Series(list("ffmm")))})
    notes = build.case_notes(
        cases,
        ["sex"],
        true_pixels=np.array([9, 0, 9, 9]),
        pred_pixels=np.array([9, 0, 0, 0]),
        spacing=np.array([[1, 1], [1, 1.2], [np.nan, 1], [1, 1]]),
    )
    assert notes == [
        "the reference mask is empty in 1 of 4 cases (b)",
        "the spacing is unknown in 1 of 4 cases (c), so these have no distances, NSD or areas",
        "a pixel is larger than the tolerance of NSD, 1 mm, in 1 of 4 cases (b): there, an error of one pixel "
        "is a miss",
        "the prediction is empty in 2 of 4 cases (such as c), and scores 0 there (sex: f 0, m 2)",
    ]
    assert build.sentences(["one two.", "one two", "a.csv has", "is it?"]) == [
        "One two.",
        "a.csv has.",
        "Is it?",
    ]
