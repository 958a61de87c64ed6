"""The per-case table and the report of a tiny run, checked against a recomputation from the masks."""

import copy
import json
import shutil

import jax
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from kneefair_jax import metrics, models
from kneefair_jax.data import store
from kneefair_jax.errors import InputError
from kneefair_jax.evaluation import evaluate, gap_analysis
from kneefair_jax.fairness import reference_ser
from kneefair_jax.runtime import run_directory
from kneefair_jax.training import loop, scoring, setup
from tests.training import study


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("run")
    cohort, config = study.cohort(), study.config(steps=20, eval_every=10)
    config.report.attribute_leakage = True
    cases = store.prepare(cohort.source, cohort.grid, workdir / "store")
    experiment = setup.build(config, cohort)
    run_directory.open_run(workdir, config, table="t", pixels=cases.digest)
    loop.train(config, experiment, cohort, cases, workdir)
    other = study.cohort(8)
    table = other.cases.assign(split="external", case_id=[f"x{i}" for i in range(8)])
    external = (other._replace(cases=table), cases)
    page = evaluate.evaluate(config, experiment, cohort, cases, workdir, external)
    return config, cohort, cases, experiment, workdir, page


def test_the_table_has_its_columns_and_splits(run):
    table = pd.read_parquet(run[4] / "cases.parquet")
    assert list(table.columns) == [
        *("case_id", "patient_id", "split", "model", "structure", "sex", "race"),
        *("dice", "iou", "hd95_mm", "assd_mm", "nsd", "ece", "true_area_mm2", "pred_area_mm2"),
        "soft_dice",
    ]
    # Every rule's checkpoint and every part of the cohort has them.
    assert table[["hd95_mm", "assd_mm", "nsd", "ece"]].notna().all(axis=None)
    assert set(table["split"]) == {"validation", "test", "external"}
    assert set(table["model"]) == {"overall", "worst_group", "utopia"}
    assert not table.duplicated(["case_id", "model", "structure"]).any()
    assert len(table) == 3 * 2 * (8 + 8 + 8)


def test_scores_follow_from_the_saved_predictions(run):
    _, cohort, cases, _, workdir, _ = run
    table = pd.read_parquet(workdir / "cases.parquet")
    test = table[(table["model"] == "overall") & (table["split"] == "test")].set_index(
        ["case_id", "structure"]
    )
    with np.load(workdir / "predictions.npz") as predictions:
        assert sorted(predictions) == sorted(cohort.cases["case_id"].iloc[cohort.rows("test")])
        for row in cohort.rows("test"):
            case_id = cohort.cases["case_id"].iloc[row]
            label = cases[row]["label"]
            for s, structure in enumerate(study.STRUCTURES, start=1):
                p, t = predictions[case_id] == s, label == s
                entry = test.loc[(case_id, structure)]
                np.testing.assert_allclose(entry["dice"], 2 * (p & t).sum() / (p.sum() + t.sum()), rtol=1e-6)
                np.testing.assert_allclose(entry["true_area_mm2"], t.sum() * 0.25)
                np.testing.assert_allclose(entry["pred_area_mm2"], p.sum() * 0.25)
                distances = metrics.surface_distances(p.astype(int), t.astype(int), 1, (0.5, 0.5))
                for score, value in distances.items():
                    np.testing.assert_allclose(entry[score], value[0])


def test_group_means_of_the_report_follow_from_the_table(run):
    workdir = run[4]
    report = json.loads((workdir / "report" / "report.json").read_text())
    table = pd.read_parquet(workdir / "cases.parquet")
    test = table[(table["model"] == "overall") & (table["split"] == "test")]
    macro = test.groupby(["patient_id", "case_id", "sex"], observed=True)["dice"].mean()
    by_patient = (
        macro.groupby(["patient_id", "sex"], observed=True).mean().groupby("sex", observed=True).mean()
    )
    for sex, mean in by_patient.items():
        np.testing.assert_allclose(report["scores"]["dice"]["groups"][f"sex={sex}"]["mean"], mean)
    gap = by_patient.max() - by_patient.min()
    np.testing.assert_allclose(report["scores"]["dice"]["summaries"]["sex"]["gap"]["value"], gap)
    assert report["scores"]["dice"]["overall"]["patients"] == 4
    assert report["external"]["scores"]["dice"]["overall"]["cases"] == 8
    for split, rates in (("test", report["rates"]), ("external", report["external"]["rates"])):
        rows = table[(table["model"] == "overall") & (table["split"] == split)]
        failure = rates["endpoints"]["failure"]
        assert failure["count"] == rows[rows["dice"] < 0.5]["patient_id"].nunique()
        assert failure["overall"]["n"] == rows["patient_id"].nunique() == 4
    assert set(report["selection"]) == {"overall", "worst_group", "utopia"}


def test_small_groups_of_the_external_cohort_are_pooled_where_the_primary_score_is_measured():
    cohort, config = study.cohort(32), study.config()
    cases = cohort.cases.merge(pd.DataFrame({"structure": study.STRUCTURES}), how="cross")
    cases["dice"] = np.random.default_rng(0).uniform(0.8, 1, len(cases))
    pooled = evaluate._pooled(config, cohort, cases)
    males = cases[cases["sex"] == "male"]
    assert pooled["sex=male"]["patients"] == males["patient_id"].nunique()
    assert pooled["sex=male"]["raw"] == pytest.approx(males["dice"].mean())
    config.report.primary = "hd95_mm"
    assert evaluate._pooled(config, cohort, cases) == {}


def test_the_flow_of_patients_ends_at_the_tested_cases(run):
    _, cohort, _, _, workdir, _ = run
    flow = json.loads((workdir / evaluate.REPORT).read_text())["cohort"]["flow"]
    assert flow["listed"] == flow["cohort"]["cases"] == len(cohort.cases) and not flow["excluded"]
    assert flow["tested"] == flow["splits"]["test"]
    assert flow["tested"]["cases"] == len(cohort.rows("test"))


def test_size_calibration_and_leakage_are_in_the_report(run):
    report = json.loads((run[4] / "report" / "report.json").read_text())
    table = pd.read_parquet(run[4] / "cases.parquet")
    test = table[(table["model"] == "overall") & (table["split"] == "test")]
    # Patients without a failed segmentation are too few for a model, if there are any.
    assert report["model"]["dice"]["with_mediators"] is None and report["model"]["dice"]["reasons"]
    for block in (report["scores"]["dice"], report["scores"]["iou"]):
        assert block["summaries"]["sex"]["ser"]["size"] > 0
    assert "ece" not in report["scores"]
    overall = report["calibration"]["groups"]["all"]
    assert overall["patients"] == test["patient_id"].nunique()
    of_cases = test.groupby(["patient_id", "case_id"])["ece"].mean()
    assert abs(overall["bias"]) <= of_cases.groupby("patient_id").mean().mean()
    curves = report["calibration"]["curves"]
    pixels = {name: sum(curves[name]["pixels"]) for name in ("all", "sex=female", "sex=male")}
    assert pixels["all"] == pixels["sex=female"] + pixels["sex=male"] > 0
    leakage = report["attribute_leakage"]
    assert set(leakage["sex"]) == set(leakage["race"]) == {"image", "crop", "mask", "features"}
    assert leakage["sex"]["features"]["patients"] == 20
    assert leakage["race"]["features"]["reason"] == "fewer than two levels have 10 patients"


@pytest.mark.slow
def test_evaluating_again_gives_the_same_bytes(run):
    config, cohort, cases, experiment, workdir, _ = run
    report = (workdir / "report" / "report.json").read_bytes()
    evaluate.evaluate(config, experiment, cohort, cases, workdir, None)
    without = json.loads((workdir / "report" / "report.json").read_text())
    expected = json.loads(report)
    del expected["external"]
    assert without == expected


def test_notes_name_empty_predictions_and_large_pixels(run, tmp_path):
    """An audit has the same notes; `merge_folds` reads them from its folds."""
    config, cohort, cases, _, workdir, _ = run
    test = cohort.rows("test")
    values = {name: np.ones((8, 2, 15)) for name in ("pixels", "confidence", "accuracy")}
    values |= {"true_pixels": np.ones((8, 2), int), "pred_pixels": np.ones((8, 2), int)}
    values |= {"spacing": np.full((8, 2), 0.5)}
    values["pred_pixels"][:2], values["spacing"][5] = 0, 1.5
    ids = cohort.cases["case_id"].iloc[test].to_numpy()
    order = np.arange(8)[::-1]
    gap_analysis.write(tmp_path, ids[order], {name: rows[order] for name, rows in values.items()})
    table = pd.read_parquet(workdir / "cases.parquet")
    environment = json.loads((workdir / "environment.json").read_text())
    report = evaluate._report(config, cohort, cases, table, environment, [tmp_path])
    notes = " ".join(report["cohort"]["notes"])
    assert (
        f"The prediction is empty in 2 of 8 cases (such as {ids[0]}), and scores 0 there (sex: female 2"
        in notes
    )
    assert f"larger than the tolerance of NSD, 1 mm, in 1 of 8 cases ({ids[5]})" in notes


@pytest.mark.slow
def test_masks_of_the_grid_s_size_score_the_same_at_their_own(run, tmp_path):
    config, cohort, cases, experiment, workdir, _ = run
    shutil.copytree(workdir, tmp_path / "run", ignore=shutil.ignore_patterns("store", "report"))
    own = cohort.source._replace(read_native=lambda rows: map(study.example, rows))
    page = evaluate.evaluate(config, experiment, cohort._replace(source=own), cases, tmp_path / "run")
    native, grid = (pd.read_parquet(folder / "cases.parquet") for folder in (tmp_path / "run", workdir))
    grid = grid[grid["split"] != "external"]
    pd.testing.assert_frame_equal(native, grid, check_dtype=False)
    assert "at the native resolution of the reference mask" in page.read_text()
    report = json.loads((tmp_path / "run" / "report" / "report.json").read_text())
    assert report["run"]["resolution"] == "native"


def larger(rows):
    """The cases at three times the rows and twice the columns, with lines that no grid of 16 rows can tell."""
    for row in rows:
        case = study.example(row)
        label = np.kron(case.label, np.ones((3, 2), np.uint8))
        label[::5] = 0
        yield case._replace(label=label, spacing=case.spacing / (3, 2))


class Squares(list):
    """Prepared cases whose masks do not have the discs."""

    digest = "squares"

    @classmethod
    def of(cls, cases):
        return cls({**case, "label": case["label"] // 2} for case in map(cases.__getitem__, range(8)))


@pytest.mark.slow
def test_masks_of_another_size_and_scheme(run, tmp_path):
    config, cohort, cases, experiment, workdir, _ = run
    shutil.copytree(workdir, tmp_path / "run", ignore=shutil.ignore_patterns("store", "report"))
    config = config.copy_and_resolve_references()
    config.report.attribute_leakage = False
    own = cohort._replace(source=cohort.source._replace(read_native=larger))
    other = study.cohort(8)
    listed = other.cases.assign(split="external", case_id=[f"x{i}" for i in range(8)])
    squares = other.source._replace(
        cases=listed, read_native=lambda rows: (case._replace(label=case.label // 2) for case in larger(rows))
    )
    external = other._replace(source=squares, cases=listed, structures=("square",))
    evaluate.evaluate(config, experiment, own, cases, tmp_path / "run", (external, Squares.of(cases)))
    table = pd.read_parquet(tmp_path / "run" / "cases.parquet").query("model == 'overall'")
    report = json.loads((tmp_path / "run" / "report" / "report.json").read_text())
    assert report["external"]["resolution"] == "native"
    np.testing.assert_allclose(report["run"]["spacing"], [0.1667, 0.25])

    # The likeliest of the network's own labels, and only then the other scheme's name for it.
    (variables,) = scoring.restore(
        workdir, [scoring.GroupModel()], (report["run"]["step"],), experiment.state
    )
    image = models.standardize(np.stack([cases[row]["image"] for row in range(8)]))
    probability = jax.jit(lambda image: jax.nn.softmax(experiment.model.apply(variables, image)))(image)
    dice = []
    for planes, case in zip(np.asarray(probability), larger(range(8)), strict=True):
        fine = [
            Image.fromarray(plane).resize((32, 48), Image.Resampling.BILINEAR)
            for plane in np.moveaxis(planes, 2, 0).copy()
        ]
        prediction = np.argmax([np.asarray(plane) for plane in fine], axis=0) == 2
        true = case.label == 2
        dice.append(2 * (prediction & true).sum() / (prediction.sum() + true.sum()))
    np.testing.assert_allclose(table.query("split == 'external'")["dice"], dice)

    # What size alone explains is of the masks that the distances are of.
    test, rows = table.query("split == 'test'"), cohort.rows("test")
    spacing = np.tile([0.5 / 3, 0.25], (len(rows), 1))
    offset = reference_ser.boundary_offset_mm(test, spacing)
    errors = [
        metrics.boundary_errors(c.label, 2, pixel, offset)
        for c, pixel in zip(larger(rows), spacing, strict=True)
    ]
    expected = copy.deepcopy(report["scores"])
    by_score = {name: np.stack([error[name] for error in errors]) for name in ("dice", "iou")}
    reference_ser.add_expected_ser(expected, by_score, test, cohort.cases.iloc[rows], ("sex", "race"))
    for score in ("dice", "iou"):
        ser, by_hand = (
            scores[score]["summaries"]["sex"]["ser"]["size"] for scores in (report["scores"], expected)
        )
        assert ser == pytest.approx(by_hand, rel=1e-6)


@pytest.mark.slow
def test_the_primary_family_and_the_choice_of_pairs_reach_the_report(run, tmp_path):
    config, cohort, cases, experiment, workdir, _ = run
    shutil.copytree(workdir, tmp_path / "run")
    config = config.copy_and_resolve_references()
    config.report.update(primary="iou:race", intersections=False, attribute_leakage=False)
    table = study.cohort(8).cases.assign(split="external", case_id=[f"x{i}" for i in range(8)])
    external = (study.cohort(8)._replace(cases=table), cases)
    evaluate.evaluate(config, experiment, cohort, cases, tmp_path / "run", external)
    report = json.loads((tmp_path / "run" / "report" / "report.json").read_text())
    assert (report["primary"]["score"], report["primary"]["attributes"]) == ("iou", ["race"])
    for part in (report, report["external"]):
        assert set(part["scores"]["iou"]["summaries"]) == {"sex", "race"}
        names = [*part["scores"]["dice"]["groups"], *part["rates"]["endpoints"]["failure"]["groups"]]
        assert not any("," in name for name in names)
    assert not any("," in name for name in report["calibration"]["curves"])
    assert report["interactions"] == {}


def test_a_folder_without_checkpoints(run, tmp_path):
    config, cohort, cases, experiment, *_ = run
    with pytest.raises(InputError, match="has no checkpoint; train first"):
        evaluate.evaluate(config, experiment, cohort, cases, tmp_path)
