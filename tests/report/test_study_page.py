import copy
import json
import re
import shlex
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from kneefair_jax.fairness.method_comparison import compare_methods
from kneefair_jax.report import study_page
from kneefair_jax.report.text import formatting, study_text
from tests.report.text.test_study_text import STUDY as TEXT_STUDY
from tests.report.text.test_study_text import method as described

METHODS = {  # gap of B, cost of A
    "erm": (0.058, 0.0),
    "undersampled": (0.052, 0.015),
    "equal_share": (0.022, 0.001),
    "oversampled": (0.027, 0.0),
    "reweighted": (0.055, 0.0),
    "group_dro": (0.015, 0.006),
    "oracle": (0.018, 0.001),
}
SIZES = {"race=A": 90, "race=B": 30}


def runs(methods, seed=0, seeds=5, sizes=SIZES):
    rng = np.random.default_rng(seed)
    index = np.repeat(np.arange(len(sizes)), list(sizes.values()))
    patients = -rng.gamma(2, 0.008, len(index))
    last = index == len(sizes) - 1
    scores = {
        name: 0.965
        - cost
        - gap * last
        + patients
        + rng.normal(0, 0.002, (seeds, 1))
        + rng.normal(0, 0.006, (seeds, 1)) * last
        + rng.normal(0, 0.004, (seeds, len(index)))
        for name, (gap, cost) in methods.items()
    }
    return scores, index


def comparison(methods=METHODS, seed=0, seeds=5, sizes=SIZES, **options):
    scores, index = runs(methods, seed, seeds, sizes)
    options = {"oracle": "oracle" if "oracle" in methods else None, "draws": 200} | options
    if options.pop("distances", True):
        options["hd95"] = {name: 40 * (1 - values) for name, values in scores.items()}
    return compare_methods(scores, index, tuple(sizes), **options).to_dict()


def swept(share):
    methods = {name: (gap * (0.3 / (share + 0.2)), cost) for name, (gap, cost) in METHODS.items()}
    return {"share": share, "comparison": comparison(methods, seed=int(100 * share))}


SHARES = (0.05, 0.1, 0.2, 0.4)
STUDY = {
    "title": "Mitigations on phantoms, short budget",
    "description": "A rare group whose bones differ in shape and contrast.",
    "attribute": "race",
    "conditions": {"Cohort": "phantoms, fingerprint 3f9a1c", "Patients": {"train": 700, "test": 120}},
    "methods": {name: {"label": name.replace("_", " "), "changes": {}} for name in METHODS}
    | {
        "equal_share": {
            "label": "equal share",
            "changes": {"mitigation.sampler": ["shuffled", "equal_share"]},
        },
        "group_dro": {
            "label": "group DRO",
            "changes": {
                "mitigation.objective": ["erm", "group_dro"],
                "mitigation.eta": [None, 0.1],
                "mitigation.sampler": ["shuffled", "equal_share"],
            },
        },
    },
    "comparison": comparison(),
    "rule": "overall",
    "rules": {rule: comparison(seed=i) for i, rule in enumerate(("overall", "worst_group", "utopia"))},
    "sweep": {
        "field": "data.phantom.attributes.race.B",
        "label": "share of the minority",
        "points": [swept(share) for share in reversed(SHARES)],
    },
    "runs": {
        "seeds": [0, 1, 2, 3, 4],
        "seconds": 5130.0,
        "device": "cpu, 2 cores",
        "versions": {"jax": "0.12.0"},
        "commit": "0123abc",
        "command": "python launch.py --mode=study --config=configs/study.py --workdir=runs/study",
        "config": {"seed": 0, "train": {"steps": np.int64(250)}, "size": (64, 64), "rate": float("nan")},
    },
}


@pytest.fixture
def study():
    return copy.deepcopy(STUDY)


class Page(HTMLParser):
    def __init__(self, html):
        super().__init__()
        self.tags, self.text, self.open, self.balanced = [], [], [], True
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in ("meta", "br"):
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        self.balanced &= bool(self.open) and self.open.pop() == tag

    def handle_data(self, data):
        if "style" not in self.open:
            self.text.append(data)

    def words(self):
        return " ".join(" ".join(self.text).split())


def render(study):
    parsed = Page(study_page.page(study_page.plain(study)))
    assert parsed.balanced and not parsed.open
    words = parsed.words()
    assert "None" not in words and "nan" not in words.lower().split()
    return parsed, words


def test_every_number_of_the_comparison_is_on_the_page(study):
    _, words = render(study)
    for method in study["comparison"]["methods"].values():
        for over in [method[key] for key in ("mean", "worst", "gap", "ser", "es")]:
            assert formatting.number(over["value"]) in words
            assert (
                formatting.interval(over["seeds"]) in words and formatting.interval(over["patients"]) in words
            )
        assert formatting.number(method["hd95"]["value"], 2) in words
        for key, over in (method["change"] or {}).items():
            digits = 2 if key == "hd95" else 3
            assert study_text.signed(over["value"], digits) in words
            assert formatting.interval(over["seeds"], digits) in words
            assert formatting.interval(over["patients"], digits) in words
        if method["closed"]:
            assert formatting.number(100 * method["closed"]["value"], 0) + " %" in words
            assert formatting.number(method["closed"]["left"]["value"]) in words
    for part in study["rules"].values():
        assert formatting.number(part["methods"]["reweighted"]["gap"]["value"]) in words
    for point in study["sweep"]["points"]:
        assert formatting.interval(point["comparison"]["methods"]["erm"]["pair"]["seeds"]) in words


def test_conditions_and_differences_are_on_the_page(study):
    _, words = render(study)
    for text in ("phantoms, fingerprint 3f9a1c", "train 700, test 120", "mitigation.eta", "null", "0.1"):
        assert text in words
    for text in ("0, 1, 2, 3, 4", "cpu, 2 cores", "85.5 min", "0123abc", "--mode=study", '"steps": 250'):
        assert text in words
    assert re.search(r"reweighted\s+no difference", words)


def test_what_the_methods_cost_is_on_the_page(study):
    _, words = render(study)
    assert "Total steps" not in words
    study["methods"]["erm"] |= {"steps": 300, "seconds": 41.2}
    study["methods"]["group_dro"] |= {"steps": 1234, "seconds": 987.6}
    _, words = render(study)
    assert "Total steps" in words and "Seconds" in words
    assert re.search(r"erm 300 41 the baseline", words) and re.search(r"1,234 988 mitigation", words)
    assert re.search(f"reweighted {formatting.DASH} {formatting.DASH} no difference", words)


def test_what_diverged_and_how_runs_differ_is_on_the_page(study):
    assert "diverged" not in render(study)[1]
    study["diverged"] = {"jtt": ["runs/jtt/seed_11"]}
    study["notes"] = ["3 runs were made on another device."]
    _, words = render(study)
    assert "jtt is excluded because 1 run diverged (runs/jtt/seed_11)." in words
    assert "3 runs were made on another device." in words
    first = words.index("Effect of each method"), words.index("jtt is excluded"), words.index("Results by")
    last = words.index("The unit of analysis"), words.index("on another device")
    assert sorted([*first, *last]) == [*first, *last]


def test_winners_and_the_sweep_s_sign_say_what_they_are(study):
    _, words = render(study)
    assert "no test compares it with the next smallest gap" in words
    assert "At every point the gap is race A minus race B" in words


def test_the_page_without_oracle_sweep_rules_distances_and_runs(study):
    methods = {name: value for name, value in METHODS.items() if name != "oracle"}
    study |= {"comparison": comparison(methods, distances=False), "sweep": None, "rules": {}, "runs": {}}
    study |= {"description": "", "conditions": {}}
    parsed, words = render(study)
    assert "oracle" not in words and "Closed" not in words and "Rules that" not in words
    assert len([1 for tag, _ in parsed.tags if tag == "svg"]) == 1
    assert "repairable" not in words


def test_warnings_and_the_regime_are_on_the_page_where_they_are_known(study):
    _, words = render(study)
    assert "Warning." not in words and "Training and test scores" not in words
    groups = {"race=A": [0.96] * 5, "race=B": [0.95] * 5}
    train_scores = {group: {"cases": 40, "dice": dice} for group, dice in groups.items()}
    study["training"] = {
        "erm": {"rise": [0.02] * 5, "train_scores": train_scores},
        "group_dro": {"rise": None, "train_scores": None},
    }
    _, words = render(study)
    assert "Warning. The validation Dice of erm still rose by more than 0.01" in words
    assert "(long-budget regime)" in words and re.search(r"erm race A 0\.960 0\.9\d\d .0\.0\d\d 40", words)


def test_the_sweep_s_table_has_no_row_of_dashes(study):
    for point in study["sweep"]["points"]:
        del point["comparison"]["methods"]["reweighted"]
    _, words = render(study)
    assert not re.search(f"reweighted {formatting.DASH} {formatting.DASH}", words)


def test_intervals_end_where_scores_do(study):
    study["comparison"]["methods"]["erm"]["mean"]["seeds"] = [0.9, 1.234]
    _, words = render(study)
    assert "[0.900, 1.000]" in words and "1.234" not in words


def test_one_method_is_not_of_the_1_methods(study):
    study["comparison"] = comparison({"erm": METHODS["erm"], "group_dro": METHODS["group_dro"]})
    assert "over the one method, by" in render(study)[1]


def test_one_seed_and_one_group_are_still_a_page(study):
    study["comparison"] = comparison(seeds=1)
    _, words = render(study)
    assert "There is one seed, so no change is tested." in words
    study["comparison"] = comparison(sizes={"race=A": 90, "race=B": 4})
    study["sweep"] = None
    study["rules"] = {}
    _, words = render(study)
    assert "so there is no gap to compare" in words
    assert "the overall mean (" in words and "the gap (" not in words


def test_three_groups_have_the_gap_of_each_method(study):
    study["comparison"] = comparison(sizes=SIZES | {"race=C": 25})
    base = study["comparison"]["methods"]["erm"]
    base["pair"] = dict.fromkeys(base["pair"], None)
    _, words = render(study)
    assert f"over seeds) is {formatting.number(base['gap']['value'])}" in words
    assert "a negative gap is reversed" not in words


def test_names_from_files_are_escaped(study):
    evil = "<script>alert(1)</script>"
    text = json.dumps(study_page.plain(study)).replace("race=B", f"race={evil}")
    study = json.loads(text.replace("group DRO", evil).replace("0123abc", evil))
    study["title"] = study["description"] = study["sweep"]["label"] = evil
    study["methods"]["equal_share"]["changes"] = {evil: [evil, [evil]]}
    parsed, words = render(study)
    assert "script" not in {tag for tag, _ in parsed.tags}
    assert words.count(evil) > 8


def test_nothing_is_fetched_and_all_is_labelled(study):
    parsed, _ = render(study)
    assert {tag for tag, _ in parsed.tags}.isdisjoint({"link", "script", "iframe", "a", "object", "img"})
    assert all("http" not in (value or "") for _, attributes in parsed.tags for value in attributes.values())
    figures = [attributes for tag, attributes in parsed.tags if tag == "svg"]
    assert len(figures) == 2 and all(a["role"] == "img" and a["aria-label"] for a in figures)
    ids = [attributes["id"] for _, attributes in parsed.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    assert all(a.get("scope") for tag, a in parsed.tags if tag == "th")


def test_the_same_input_gives_the_same_bytes_and_strict_json(tmp_path, study):
    first, second = (study_page.write(tmp_path / name, study) for name in ("a", "b"))
    assert first.read_bytes() == second.read_bytes()
    assert sorted(path.name for path in first.parent.iterdir()) == ["index.html", "study.json"]

    def refuse(constant):
        raise AssertionError(constant)

    read = json.loads(first.with_name("study.json").read_text("utf-8"), parse_constant=refuse)
    assert read["schema"] == 1 and read["runs"]["config"]["rate"] is None
    assert read["comparison"] == study["comparison"]


def test_a_study_that_cannot_be_drawn_leaves_the_old_page(tmp_path, study):
    old_page = study_page.write(tmp_path, study).read_bytes()
    del study["methods"], study["runs"]
    with pytest.raises(KeyError):
        study_page.write(tmp_path, study)
    assert (tmp_path / "index.html").read_bytes() == old_page
    assert b'"runs"' in (tmp_path / "study.json").read_bytes()


NARROWS = [(-0.02, 0.003), (0.018, 0.001), (0.001, 0.4)]


def study_of(**methods):
    comparison = TEXT_STUDY["comparison"] | {"methods": {"erm": described(0.05), **methods}}
    folders = {name: {"path": f"runs/{name}/seed_1", "validation": 0.9} for name in comparison["methods"]}
    return TEXT_STUDY | {"comparison": comparison, "rule": "worst_group", "folders": folders}


def test_the_method_with_the_smallest_gap_that_meets_the_criterion():
    result = study_page.recommendation(
        study_of(dro=described(0.03, NARROWS), adversary=described(0.02, NARROWS))
    )
    assert result.method == "adversary" and result.path == "runs/adversary/seed_1"
    assert result.command == "kneefair export runs/adversary/seed_1"
    assert "0.050" in result.reason and "0.020" in result.reason and "worst group" in result.reason


@pytest.mark.parametrize(
    "change",
    [
        [(-0.02, 0.2), (0.0, 0.5), (0.0, 0.5)],  # not significant
        [(0.02, 0.003), (0.0, 0.5), (0.0, 0.5)],  # a larger gap
        [(-0.02, 0.003), (0.0, 0.5), (-0.01, 0.01)],  # a lower mean
        [(-0.02, None), (0.0, None), (0.0, None)],  # one seed
    ],
)
def test_none_is_better_than_the_baseline(change):
    result = study_page.recommendation(study_of(dro=described(0.03, change)))
    assert result.method == "erm" and result.verdict == "No method is better than erm"
    assert result.command.endswith("runs/erm/seed_1")


def test_an_interval_over_patients_that_includes_zero_is_no_recommendation():
    dro = described(0.03, NARROWS)
    dro["change"]["gap"]["patients"] = [-0.05, 0.01]
    assert study_page.recommendation(study_of(dro=dro)).method == "erm"


def test_an_undefined_interval_over_patients_is_no_recommendation():
    dro = described(0.03, NARROWS)
    dro["change"]["gap"]["patients"] = None
    assert study_page.recommendation(study_of(dro=dro)).method == "erm"


def test_of_two_methods_the_one_whose_gap_is_not_reversed():
    narrowed = described(0.004, [(-0.046, 0.003), (0.018, 0.001), (0.001, 0.4)])
    reversed_gap = described(-0.011, [(-0.061, 0.003), (0.018, 0.001), (0.001, 0.4)])
    reversed_gap["pair"]["seeds"] = [-0.03, 0.006]
    assert study_page.recommendation(study_of(a=narrowed, rev=reversed_gap)).method == "a"
    assert study_page.recommendation(study_of(rev=reversed_gap)).method == "erm"


def test_of_more_than_two_groups_a_reversed_pair_is_no_recommendation():
    dro = described(0.011, NARROWS)
    dro["pair"] = {"value": -0.011, "seeds": [-0.03, 0.006]}
    assert study_page.recommendation(study_of(dro=dro)).method == "erm"


def test_the_export_command_is_quoted_for_a_shell():
    command = study_page.export_command(Path("my study") / "runs" / "erm" / "seed_1")
    assert shlex.split(command) == ["kneefair", "export", "my study/runs/erm/seed_1"]


def test_a_reversed_gap_is_no_recommendation_and_an_unknown_path_no_command():
    dro = described(0.03, NARROWS)
    dro["pair"] = {"value": -0.04, "seeds": [-0.05, -0.03]}
    study = study_of(dro=dro)
    del study["folders"]
    result = study_page.recommendation(study)
    assert result.method == "erm" and result.path == result.command == ""
