"""A model card has the content of the run directory, and marks missing content as not recorded."""

import copy

import pytest
import yaml

from kneefair_jax.export import model_card, network_files


def entry(mean, patients):
    return {"mean": mean, "interval": [mean - 0.01, mean + 0.01], "patients": patients, "cases": patients}


def structure(mean):
    groups = {"site=a|b": entry(mean, 40), "site=c": entry(0.123, 3)}
    return {"overall": entry(mean, 43), "groups": groups}


DICE = {
    "structures": {"tibia": structure(0.9), "femur": structure(0.95)},
    "summaries": {"site": {"gap": {"value": 0.02, "interval": [0.01, 0.03]}}},
}
REPORT = {
    "cohort": {
        "structures": ["tibia", "femur"],
        "attributes": ["site"],
        "min_group_patients": 10,
        "table": [
            {"group": "site=a|b", "split": "train", "patients": 1200, "cases": 1300},
            {"group": "site=c", "split": "train", "patients": 4, "cases": 9},
        ],
    },
    "run": {"grid": [64, 48], "step": 900, "times": {"train_seconds": 90.0}, "absent": {"femur": 2}},
    "scores": {"dice": DICE},
}
CONFIG = {
    "model": {"name": "unet"},
    "data": {"source": "folder"},
    "mitigation": {"schedule": {"name": "group_specific"}},
}
ENVIRONMENT = {"command": "python launch.py", "commit": "abc", "device": "1 x cpu", "versions": {"jax": "1"}}


def front(text):
    prefix, matter, body = text.split("---\n", 2)
    assert not prefix
    return yaml.safe_load(matter), body


def test_a_hub_can_read_the_front_matter():
    matter, _ = front(model_card.model_card_text("mine", CONFIG, REPORT, ENVIRONMENT, license_id="cc-by-4.0"))
    assert matter["license"] == "cc-by-4.0" and matter["pipeline_tag"] == "image-segmentation"
    assert matter["library_name"] == "kneefair_jax" and "radiography" in matter["tags"]
    (model,) = matter["model-index"]
    (result,) = model["results"]
    assert model["name"] == "mine" and result["task"] == {"type": "image-segmentation"}
    assert result["dataset"] == {"name": "test cases of its own cohort", "type": "folder"}
    assert result["metrics"] == [
        {"type": "dice", "name": "Dice, tibia", "value": 0.9},
        {"type": "dice", "name": "Dice, femur", "value": 0.95},
    ]


def test_scores_and_patients_by_group_except_small_groups():
    _, body = front(model_card.model_card_text("mine", CONFIG, REPORT, ENVIRONMENT, parameters=1234))
    assert "`unet`) with 1,234 parameters that segments tibia and femur" in body
    assert "| site=a\\|b | withheld | 0.900 [0.890, 0.910] | 0.950 [0.940, 0.960] |" in body
    assert "| site=c | fewer than 10 | too few | too few |" in body and "0.123" not in body
    assert (
        "| site=a\\|b | withheld |" in body and "1,200" not in body and "| site=c | fewer than 10 |" in body
    )
    assert "Gap by site, macro Dice: 0.020 ([0.010, 0.030])." in body
    assert "femur is absent from both masks of 2 test cases" in body
    assert "needs the group of every image" in body and "License of the weights: not recorded" in body
    assert "training time: 2 min" in body and "only on cases of its own cohort" in body


def test_scores_of_few_patients_are_nowhere():
    """Three test patients: no Dice in the front matter, the table or the description; those of 43 others stay."""
    few = {
        "structures": {
            name: {"overall": entry(mean, 3), "groups": {}}
            for name, mean in (("tibia", 0.8512), ("femur", 0.9123))
        }
    }
    own, external = ("test cases of its own cohort", [0.9, 0.95]), ("external cohort", [0.95, 0.9])
    for dice, dice_external, expected in ((few, DICE, [external]), (DICE, few, [own]), (few, few, [])):
        report = copy.deepcopy(REPORT)
        report["scores"] = {"dice": dice}
        report["external"] = {"scores": {"dice": dice_external}, "structures": ["femur", "tibia"]}
        text = model_card.model_card_text("mine", CONFIG, report, ENVIRONMENT)
        assert not any(number in text for number in ("0.851", "0.912"))
        results = [result for model in front(text)[0].get("model-index", []) for result in model["results"]]
        values = [
            (result["dataset"]["name"], [metric["value"] for metric in result["metrics"]])
            for result in results
        ]
        assert values == expected
        about = network_files._describe(
            network_files._Run(CONFIG, report, ENVIRONMENT | {"started": ""}), "pad"
        )
        for key, cohort in (("dice", dice), ("dice_external", dice_external)):
            means = [structure["all"]["mean"] for structure in about[key].values()]
            assert means == ([None, None] if cohort is few else [0.9, 0.95])


def test_missing_content_and_the_external_cohort_are_marked():
    bare = copy.deepcopy(REPORT)
    bare["cohort"] = {"structures": ["tibia", "femur"]}
    bare["run"] = {"grid": [64, 48], "step": 900}
    matter, body = front(model_card.model_card_text("mine", {"model": {"name": "unet"}}, bare, {}))
    assert "license" not in matter
    assert "Patients by group: not recorded" in body and "commit: not recorded" in body
    assert "was not evaluated by group" in body and "No external cohort" in body
    bare["external"] = {"scores": {"dice": DICE}, "structures": ["femur", "tibia"]}
    matter, body = front(model_card.model_card_text("mine", CONFIG, bare, {}))
    (_, external) = matter["model-index"][0]["results"]
    assert (
        external["dataset"]["name"] == "external cohort" and external["metrics"][0]["name"] == "Dice, femur"
    )
    assert "No external cohort" not in body


def test_the_resolution_of_scores_and_the_minimum_of_patients():
    report = copy.deepcopy(REPORT)
    report["cohort"]["min_group_patients"] = 3
    report["external"] = {"scores": {"dice": DICE}, "structures": ["femur", "tibia"], "resolution": "working"}
    report["run"]["resolution"] = "native"
    _, body = front(model_card.model_card_text("mine", CONFIG, report, {}))
    assert "\n* Scores of the external cohort are at the working resolution" in body
    assert "\n* Scores are at" not in body
    # Three patients are enough for both cohorts of this run.
    assert body.count("| site=c | 3 | 0.123") == 2
    report["external"]["resolution"] = "native"
    assert "working resolution, not" not in front(model_card.model_card_text("mine", CONFIG, report, {}))[1]
    assert (
        "\n* Scores are at the working resolution"
        in front(model_card.model_card_text("mine", CONFIG, REPORT, {}))[1]
    )


@pytest.mark.parametrize(
    ("source", "sentence"), [("oai", "terms of use apply"), ("phantom", "no patient's radiograph")]
)
def test_the_origin_of_the_radiographs(source, sentence):
    config = CONFIG | {"data": {"source": source}}
    assert sentence in model_card.model_card_text("mine", config, REPORT, ENVIRONMENT)


@pytest.mark.parametrize("online", [True, False])
def test_online_training_cases_are_mentioned(online):
    config = CONFIG | {"data": {"source": "phantom", "phantom": {"online": online}}}
    assert ("generated once" in model_card.model_card_text("mine", config, REPORT, ENVIRONMENT)) == online
