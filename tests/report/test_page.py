import json
import re
from html.parser import HTMLParser

import numpy as np
import pytest

from kneefair_jax.fairness import patient_table
from kneefair_jax.report import build, page
from kneefair_jax.report.figures import draw, scatter
from kneefair_jax.report.overlays import choose
from kneefair_jax.report.text import formatting, models
from tests.report import failed_cohort
from tests.report.reports import external

VOID = {"meta", "br", "img", "link", "input", "hr"}


class Page(HTMLParser):
    """Every tag with its attributes, the text outside of style, and whether tags close in order."""

    def __init__(self, html: str):
        super().__init__()
        self.tags, self.text, self.open, self.balanced = [], [], [], True
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        self.balanced &= bool(self.open) and self.open.pop() == tag

    def handle_data(self, data):
        if "style" not in self.open:
            self.text.append(data)

    def words(self) -> str:
        return " ".join(" ".join(self.text).split())


_DRAWN: list[str] = []


@pytest.fixture
def html(report, cases, curves, examples) -> str:
    """The page of the fixtures as they are, drawn once."""
    if not _DRAWN:
        _DRAWN.append(page.page(page.plain(report), cases, page.plain(curves), examples))
    return _DRAWN[0]


def test_every_mean_interval_and_count_is_on_the_page(report, html):
    parsed = Page(html)
    words = parsed.words()
    for score in report["scores"].values():
        for part in (score, *score["structures"].values()):
            for entry in (part["overall"], *part["groups"].values()):
                if entry["mean"] is not None:
                    assert f"{entry['mean']:.3f}" in words
        for entry in score["groups"].values():
            if entry["interval"]:
                assert "[{:.3f}, {:.3f}]".format(*entry["interval"]) in words
    assert "1,132" in words
    assert parsed.balanced and not parsed.open


def test_the_opening_says_what_was_tested_and_the_gap(html):
    words = Page(html).words()
    assert "tested on 1,132 cases of 66 patients, grouped by sex (female: n = 31, male: n = 31)" in words
    assert "By sex, male has the highest mean Dice (0.946) and female the lowest (0.931)" in words
    assert "a gap of 0.015 (95 % interval 0.002 to 0.027)" in words
    assert (
        "fewer than 10 patients, and patients whose attribute is missing, are shown but not ranked" in words
    )
    assert "missing in" not in words and "(patella in 1 case)" in words


def test_a_table_cell_for_what_is_null(html):
    table = html[html.index(">Dice by group</h2>") :]
    row = re.search(r'<th scope="row">male, missing.*?</tr>', table, re.DOTALL)
    assert row is not None
    cells = [re.sub("<[^>]*>", "", c).strip() for c in re.findall(r"<td[^>]*>(.*?)</td>", row[0], re.DOTALL)]
    assert cells == ["4", "8"] + [formatting.DASH] * 4
    assert "nan" not in Page(html).words().lower().split() and "None" not in Page(html).words()


def test_names_from_files_are_escaped(report, cases, curves, examples):
    evil = "<script>alert(1)</script>"
    text = json.dumps(page.plain(report)).replace("female", evil).replace("3f9a1c", evil)
    cases["sex"] = cases["sex"].cat.rename_categories({"female": evil})
    examples[0] = examples[0]._replace(case_id=evil, group=f"sex={evil}")
    html = page.page(json.loads(text), cases, page.plain(curves), examples)
    parsed = Page(html)
    assert "script" not in {tag for tag, _ in parsed.tags}
    assert evil in parsed.words()
    assert parsed.balanced and not parsed.open


def test_nothing_is_fetched(html):
    parsed = Page(html)
    assert {tag for tag, _ in parsed.tags}.isdisjoint({"link", "script", "iframe", "object"})
    for tag, attributes in parsed.tags:
        for key, value in attributes.items():
            assert "http:" not in (value or "") and "https:" not in (value or "")
            if key in ("src", "href") and value != "checklist.html":  # beside the page
                assert value.startswith("data:image/png" if tag == "img" else "#")


def test_pictures_tables_and_ids_are_accessible(html):
    parsed = Page(html)
    pictures = [attributes for tag, attributes in parsed.tags if tag == "img"]
    figures = [attributes for tag, attributes in parsed.tags if tag == "svg"]
    headers = [attributes for tag, attributes in parsed.tags if tag == "th"]
    ids = [attributes["id"] for _, attributes in parsed.tags if "id" in attributes]
    assert len(pictures) == 3 and all(a["alt"] for a in pictures)
    assert len(figures) == 6 and all(a["role"] == "img" and a["aria-label"] for a in figures)
    assert headers and all(a.get("scope") for a in headers)
    assert len(ids) == len(set(ids))
    assert dict(parsed.tags)["html"] == {"lang": "en"}


def test_references_inside_the_figures_resolve(html):
    ids = set(re.findall(r'\bid="([^"]+)"', html))
    assert set(re.findall(r'(?:href="|url\()#([^")]+)', html)) <= ids


def test_patients_stay_off_the_page(tmp_path, report, cases, curves, examples):
    page.write(tmp_path, report, cases, curves, examples)
    for path in tmp_path.iterdir():
        assert "PERSON" not in path.read_text(encoding="utf-8")


def test_the_same_input_gives_the_same_bytes(tmp_path, report, cases, curves, examples):
    first, second = (page.write(tmp_path / name, report, cases, curves, examples) for name in ("a", "b"))
    assert first.read_bytes() == second.read_bytes()
    assert sorted(path.name for path in first.parent.iterdir()) == [
        "checklist.csv",
        "checklist.html",
        "groups.csv",
        "index.html",
        "rates.csv",
        "report.json",
        "report.schema.json",
        "summaries.csv",
    ]


@pytest.mark.usefixtures("without_drawing")
def test_the_json_is_strict_and_sorted(tmp_path, report, cases, curves, examples):
    path = page.write(tmp_path, report, cases, curves, examples).with_name("report.json")

    def refuse(constant):
        raise AssertionError(constant)

    read = json.loads(path.read_text(encoding="utf-8"), parse_constant=refuse)
    assert list(read) == sorted(read)
    assert read["scores"]["dice"]["summaries"]["sex"]["ser"]["value"] is None
    assert read["run"]["step"] == 1200 and read["run"]["config"]["size"] == [128, 128]


@pytest.mark.usefixtures("without_drawing")
def test_an_audit_without_training_has_no_training_section(report, cases):
    del report["selection"]
    report["run"] = {"config": {}, "absent": {}}
    words = Page(page.page(page.plain(report), cases, [], [])).words()
    assert "Training" not in words and "Examples" not in words


def test_an_external_cohort_gets_its_own_section(report, cases, curves, examples):
    report["external"] = external(report)
    parsed = Page(page.page(page.plain(report), cases, page.plain(curves), examples))
    ids = [attributes["id"] for _, attributes in parsed.tags if "id" in attributes]
    assert "External cohort The same model" in parsed.words()
    assert len(ids) == len(set(ids)) and parsed.balanced
    assert "Pooled" not in parsed.words()


@pytest.mark.usefixtures("without_drawing")
def test_pooled_means_of_an_external_cohort_are_shown_with_it(report, cases):
    mean = {"patients": 4, "raw": 0.9, "mean": 0.8765, "interval": [0.81, 0.94], "weight": 0.4}
    report["external"] = external(report, pooled={"sex=male": mean})
    parsed = Page(page.page(page.plain(report), cases, [], []))
    before, after = parsed.words().split("External cohort The same model")
    assert "Pooled" not in before and "0.876" in after and parsed.balanced


def test_macro_scores_allow_for_absent_structures(cases):
    test = cases[cases["split"] == "test"].copy()
    first = test["case_id"] == "case000"
    test.loc[first, "dice"] = [0.5, np.nan, 0.9]
    test.loc[test["case_id"] == "case002", "dice"] = np.nan
    values = draw.macro_by_group(test, ["sex", "age"], "dice")
    assert values["sex=female"][0] == patient_table.macro(test, "dice")["case000"] != pytest.approx(0.7)
    assert len(values["sex=female"]) == 19 and len(values["sex=male"]) == 20
    assert len(values["age=missing"]) == 12  # cases 2, 5, ... 38 but the second is without a score


def test_pictures_and_examples_use_the_failure_threshold_of_the_report(cases, report, monkeypatch):
    test = cases[cases["split"] == "test"].copy()
    test.loc[test["case_id"] == "case000", "dice"] = [0.93, np.nan, 0.9]
    macro = patient_table.macro(test, "dice", 0.94)
    assert abs(macro["case000"] - patient_table.macro(test, "dice")["case000"]) > 1e-4
    assert draw.macro_by_group(test, ["sex"], "dice", 0.94)["sex=female"][0] == macro["case000"]
    of_size = scatter.areas(test.assign(true_area_mm2=100.0), ["sex"], "dice", 0.94)
    assert of_size["score"]["case000"] == macro["case000"]
    chosen = {one.case_id: one.score for one in choose(test, ["sex"], worst=100, failure_dice=0.94)}
    assert chosen["case000"] == macro["case000"]

    class FiguresError(Exception):
        pass

    def stop(*args):
        raise FiguresError(args[3])

    monkeypatch.setattr(draw, "macro_by_group", stop)
    report["rates"] = failed_cohort.rates(failed_cohort.cases(3)) | {"failure_dice": 0.94}
    with pytest.raises(FiguresError, match=r"^0\.94$"):
        page.page(page.plain(report), test, [], [])


def test_each_ratio_of_errors_names_its_patients(audited, audited_cases):
    ser = audited["scores"]["dice"]["summaries"]["sex"]["ser"]
    ser |= {"value": 4.01, "interval": [3.0, 5.0], "size": 1.08}
    ser["beyond_size"] |= {"observed": 3.04, "expected": 1.05}
    words = Page(page.page(page.plain(audited), audited_cases, [], [])).words()
    assert "SER , all patients by size alone, all patients SER without failures Verdict" in words
    assert "4.010 [3.000, 5.000] 1.080 3.040 by size 1.050 significant" in words
    assert "Among patients without a failed segmentation, the ratio of their errors is 3.04" in words


def test_the_page_of_an_audit_shows_all_its_parts_once_and_escaped(audited, audited_cases, examples):
    evil = "<img src=x>"
    text = json.dumps(page.plain(audited)).replace("Black", evil).replace("nnunet", evil).replace("bmi", evil)
    audited_cases["race"] = audited_cases["race"].cat.rename_categories({"Black": evil})
    examples[0] = examples[0]._replace(group="all", rank="1", case_id=evil)
    html = page.page(json.loads(text), audited_cases, [], examples)
    parsed = Page(html)
    words = parsed.words()
    assert parsed.balanced and not parsed.open
    ids = [attributes["id"] for _, attributes in parsed.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    assert {a["src"][:10] for tag, a in parsed.tags if tag == "img"} == {"data:image"}
    figures = [a["aria-label"] for tag, a in parsed.tags if tag == "svg"]
    assert len(figures) == 10 and all(figures)
    for text in (
        "Lowest Dice of all cases",
        "By race: a group has 15 patients, skewed scores: intervals cover about 90 %.",
        "significant; consistent with size alone",
        "no significant gap; detectable: 0.021",
        "equivalent within ±0.020",
        "Difference without failures All patients Welch 96.7 % p",
        "HD95, mm by group (lower is better), exploratory",
        f"Excluded: {evil}: unknown in most cases",
        f"race: White minus {evil} +0.0031 [\N{MINUS SIGN}0.0069, 0.0131] 0.380 0.760",
        "Covariates none log(area)",
        "least squares: dice ~ sex * race + log(area).",
        "+0.012 [0.001, 0.024] 0.015 0.031",
        "p, Holm, and the interval: for Dice corrected over the primary family",
        f"unet → {evil}",
        "Software: jax 0.11.1.",
        "report.json, report.schema.json, groups.csv, summaries.csv, pairs.csv",
    ):
        assert text in words, text


@pytest.mark.usefixtures("without_drawing")
def test_a_page_says_whose_it_is_what_to_know_first_and_where_the_others_are(audited, audited_cases):
    audited["run"] |= {"config": None, "model": "<b>a</b>"}
    del audited["models"]
    audited["cohort"]["notes"] = ["Six predictions are empty."]
    html = page.page(audited, audited_cases, [], [], {"nnunet": "../2-nnunet/index.html"})
    assert "<h1>Segmentation accuracy by patient group: &lt;b&gt;a&lt;/b&gt;</h1>" in html
    assert "by &lt;b&gt;a&lt;/b&gt; was tested on" in html
    texts = ("<h1>", 'class="verdict"', "was tested on", "Six predictions are empty.", "Cohort</h2>")
    places = [html.index(text) for text in texts]
    assert places == sorted(places) and html.count("Six predictions are empty.") == 1
    assert '<a href="../2-nnunet/index.html">nnunet</a>' in html


@pytest.mark.usefixtures("without_drawing")
def test_a_page_with_failures_in_one_group_says_so_first(tmp_path):
    table = failed_cohort.cases(8)
    table.loc[table["dice"] < 0.5, "pred_area_mm2"] = 0.0
    table.loc[table["dice"] < 0.5, "dice"] = 0.0
    cohort = table.drop_duplicates("case_id").reset_index(drop=True)
    attributes = list(failed_cohort.ATTRIBUTES)
    report = build.build_report(
        table,
        cohort[["case_id", "patient_id", *attributes]],
        build.Analysis(failed_cohort.STRUCTURES, attributes, draws=40),
        run={"config": None},
    )
    outside = {"rates": failed_cohort.rates(failed_cohort.cases(3)), "structures": failed_cohort.STRUCTURES}
    report["external"] = external(report, **outside)
    html = page.write(tmp_path, report, table, [], []).read_text()
    parsed = Page(html)
    words = parsed.words()
    assert parsed.balanced and not parsed.open
    first = words.index("was tested on 60 cases")
    failed = words.index("more frequent in female than in male")
    assert first < failed < words.index("The mean Dice over structures")
    assert "8 of 30, 26.7 %" in words and "12.3 to 45.9 %" in words
    row = re.search(r'<th scope="row">C .*?</tr>', html, re.DOTALL)
    assert row is not None and row[0].count("0 of 4, 0.0 %") == 2 and row[0].count("4 of 4, 100.0 %") == 2
    assert "rates.csv, rate_tests.csv" in words and "3 of 30, 10.0 %" in words
    assert words.count("Clopper CJ") == 1 and words.count("Newcombe RG") == 1 and "Freeman GH" not in words
    read = json.loads((tmp_path / "report.json").read_text())["rates"]["endpoints"]
    counts = {name: endpoint["count"] for name, endpoint in read.items()}
    assert counts == {"failure": 8, "absent": 8, "dice>=0.9": 52, "hd95_mm<=5": 52}
    powers = json.loads((tmp_path / "report.json").read_text())["power"]
    sex, race = powers["sex"], powers["race"]
    assert sex["groups"] == ["sex=female", "sex=male"] and race["patients"] == [28, 28]
    assert sex["failure_rate"] == pytest.approx(8 / 60) and not sex["margin_stated"]
    row = re.search(
        r'<th scope="row">sex</th>\s*<td class="words">female 30, male 30</td>.*?</tr>', html, re.DOTALL
    )
    assert row is not None and f"<td>{sex['needed']['equivalence']:,}</td>" in row[0]
    assert (tmp_path / "rates.csv").exists() and "PERSON" not in (tmp_path / "rates.csv").read_text()


@pytest.mark.usefixtures("without_drawing")
def test_the_change_of_each_group_is_folded_below_the_table_of_models(audited, audited_cases):
    html = page.page(page.plain(audited), audited_cases, [], [])
    details = re.search(r"<details>\s*<summary>Change of the mean by group.*?</details>", html, re.DOTALL)
    assert details is not None
    cells = re.findall(r"<td[^>]*>(.*?)</td>", details[0])
    minus = formatting.MINUS
    assert cells == [
        *("+0.012", "[0.008, 0.016]", "41"),
        *(f"{minus}0.002", f"[{minus}0.006, 0.002]", "40"),
    ]
    assert html.index('class="models"') < details.start() < html.index('class="card')


def test_a_title_of_the_user_is_the_heading_as_it_is(audited):
    assert ": 2 models</h1>" in page.summary_page(page.plain(audited))
    audited["run"]["title"] = "Two vendors"
    assert "<h1>Two vendors</h1>" in page.summary_page(page.plain(audited))


@pytest.mark.usefixtures("without_drawing")
def test_models_show_corrected_p_alone(audited, audited_cases):
    """The trap: an uncorrected p in bold beside a JSON that holds the corrected one."""
    pair = audited["models"]["pairs"][0]
    pair["change_of_mean"] |= {"p": 0.011, "p_holm": 0.022}
    pair["change_of_gap"] |= {"p": 0.033, "p_holm": 0.066}
    html = page.page(audited, audited_cases, [], [])
    assert "0.022</td>" in html and "0.066</td>" in html
    assert "0.011</td>" not in html and "0.033</td>" not in html
    bold = [line for line in html.splitlines() if 'class="mean"' in line]
    assert any("0.022" in line for line in bold) and not any("0.066" in line for line in bold)


@pytest.mark.usefixtures("without_drawing")
def test_models_with_and_without_mediators_are_one_column_where_they_are_equal(audited, audited_cases):
    model = audited["model"]["dice"]
    both = page.page(page.plain(audited), audited_cases, [], [])
    model["with_mediators"] = model["without_mediators"]
    one = page.page(page.plain(audited), audited_cases, [], [])
    assert "without mediators</th>" in both and "mediators</th>" not in one
    assert both.count("+0.0031") == 2 and one.count("+0.0031") == 1


def test_the_table_of_contents_lists_every_section(html):
    links = re.findall(r'<a href="#(section-[^"]+)">([^<]+)</a>', html)
    headings = re.findall(r'<h2 id="([^"]+)">([^<]+)</h2>', html)
    assert links == headings and len(links) > 5


@pytest.mark.usefixtures("without_drawing")
def test_several_models_open_side_by_side_with_their_differences(audited, audited_cases):
    audited["run"] |= {"config": None, "model": "unet"}
    audited["models"]["summaries"] = models.summaries({"unet": audited, "nnunet": audited})
    audited["models"]["pairs"][0]["change_of_gap"] |= {"value": -0.034, "p_holm": 0.004}
    html = page.page(page.plain(audited), audited_cases, [], [], {"nnunet": "2-nnunet/index.html"})
    parsed = Page(html)
    words = parsed.words()
    assert parsed.balanced and not parsed.open
    lines = ("nnunet has a 0.007 higher mean Dice than unet", "Its sex gap is 0.034 smaller (p = 0.004)")
    assert all(line in words.replace("\xa0", " ") for line in lines)
    assert html.index("Its sex gap is") < html.index('class="models"') < html.index("unet: Dice 0.")
    assert words.count("Sex , unet") + words.count("sex , unet") == 1
    assert '<a href="2-nnunet/index.html">nnunet</a>' in html
    # The verdict is that of the gap above it; the change, which has its own test, comes last.
    gap = models.rows(audited)[1].gaps["sex"]
    cell = html.split('data-label="Gap by sex">')[2].split("</td>")[0]
    assert cell.index(models.number(gap.value)) < cell.index(gap.result) < cell.index(f"change {gap.change}")
