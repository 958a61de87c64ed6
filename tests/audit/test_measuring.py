"""Audits with measurements: planted errors, refusals, readers' values, the page and the tables."""

import json
import shutil

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from kneefair_jax import audit
from kneefair_jax.audit import measuring
from kneefair_jax.audit.cli import main
from kneefair_jax.audit.options import MeasurementOptions
from kneefair_jax.errors import InputError
from kneefair_jax.measurements import MEASUREMENTS
from kneefair_jax.report import page
from kneefair_jax.report.text import measurements
from kneefair_jax.report.text.formatting import MINUS
from tests.hostile import films
from tests.measurements.knees import knee

STRUCTURES = ("femur", "tibia", "fibula", "patella")
LABELS = {name: label for label, name in enumerate(STRUCTURES, start=1)}
PIXEL = 0.5
DEFAULT = MeasurementOptions()


def label_map(**shape):
    bones = knee(pixel=PIXEL, **shape)
    label = np.zeros(bones["femur"].shape, np.uint8)
    for name in ("fibula", "tibia", "femur", "patella"):
        label[bones[name]] = LABELS[name]
    return label


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    """24 knees; women's are drawn 0.5 mm too large in the predictions, so their joints are 1 mm narrower."""
    folder = tmp_path_factory.mktemp("measured")
    for name in ("truth", "pred"):
        (folder / name).mkdir()
    rows = []
    rng = np.random.default_rng(0)
    for number in range(24):
        sex, side = ("female", "male")[number % 2], ("right", "left")[number % 3 == 0]
        space = 4.0 + rng.uniform(0, 2)
        shape = {"medial": space, "lateral": space, "side": side, "turn": rng.uniform(-4, 4)}
        case = f"k{number:02d}"
        for folder_name, grow in (("truth", 0.0), ("pred", 0.5 if sex == "female" else 0.0)):
            label = label_map(**shape, grow=grow)
            Image.fromarray(label).save(folder / folder_name / f"{case}.png")
        rows.append({"case_id": case, "patient_id": case, "sex": sex, "spacing_mm": PIXEL, "side": side})
    pd.DataFrame(rows).to_csv(folder / "metadata.csv", index=False)
    return folder


def run(cohort, metadata=None, measurements=DEFAULT, **options):
    table = pd.read_csv(cohort / "metadata.csv") if metadata is None else metadata
    return audit.masks(
        cohort / "truth",
        cohort / "pred",
        table,
        ["sex"],
        audit.MaskOptions(labels=LABELS, measurements=measurements, **options),
        audit.Settings(draws=999),
    )


@pytest.fixture(scope="module")
def measured(cohort):
    return run(cohort, measurements=MeasurementOptions(thresholds={"jsw_min_medial": 4.5}))


def test_a_planted_bias_appears_in_its_group(measured):
    errors = measured.report["measurements"]["errors"]
    for name in ("jsw_min_medial", "jsw_min_lateral", "jsw_mean_medial"):
        by_group = errors[name]["groups"]
        assert by_group["sex=female"]["bias"]["estimate"] == pytest.approx(-1, abs=0.12), name
        low, high = by_group["sex=female"]["bias"]["interval"]
        assert low - 0.05 < -1 < high + 0.05
        assert by_group["sex=male"]["bias"]["estimate"] == 0
        compared = errors[name]["attributes"]["sex"]
        assert compared["p_adjusted"] < 0.05
        assert compared["equivalent"] is False
    angle = errors["fta"]["attributes"]["sex"]
    assert angle["equivalent"] is True
    assert errors["jsw_min_medial"]["threshold"] == 4.5
    assert errors["jsw_min_medial"]["groups"]["sex=female"]["wrong_side"]["count"] > 0
    assert errors["jsw_min_medial"]["groups"]["sex=male"]["wrong_side"]["count"] == 0


def test_the_table_has_a_row_per_knee_and_measurement(measured, cohort):
    table = measured.measurements
    assert len(table) == 24 * len(MEASUREMENTS)
    assert set(table["spacing_kind"]) == {"table"}
    first = table[(table["case_id"] == "k00") & (table["measurement"] == "bicondylar_width")].iloc[0]
    assert first["reference"] == pytest.approx(84, abs=0.3)
    assert first["error"] == pytest.approx(1, abs=0.3)  # half a millimeter on each side
    groups = measured.measurement_errors
    of_women = groups[(groups["measurement"] == "jsw_min_medial") & (groups["group"] == "sex=female")].iloc[0]
    assert (
        of_women["bias"]
        == measured.report["measurements"]["errors"]["jsw_min_medial"]["groups"]["sex=female"]["bias"][
            "estimate"
        ]
    )


def test_the_page_and_the_files(measured, tmp_path):
    pages = measured.write(tmp_path / "report")
    html = next(iter(pages.values())).read_text()
    assert "Measurements by group" in html
    assert html.count('role="img" aria-label="Agreement of') == 3
    report = json.loads((tmp_path / "report/report.json").read_text())
    assert report["measurements"]["against"] == "masks"
    assert len(pd.read_csv(tmp_path / "report/measurements.csv")) == 24 * len(MEASUREMENTS)
    assert (tmp_path / "report/measurement_errors.csv").exists()


def test_an_audit_without_it_measures_nothing(cohort):
    result = run(cohort, measurements=None)
    assert "measurements" not in result.report
    assert result.measurements is None


def test_an_unknown_spacing_gives_angles_alone(cohort):
    table = pd.read_csv(cohort / "metadata.csv").drop(columns="spacing_mm")
    result = run(cohort, table)
    errors = result.report["measurements"]["errors"]
    assert list(errors) == ["fta", "aldfa", "ampta", "jlca", "width_ratio"]
    assert result.report["measurements"]["spacing_kinds"]["all"] == {"unknown": 24}
    reasons = result.report["measurements"]["reasons"]["jsw_min_medial"]
    assert list(reasons.values()) == [24]


def dicom_films(cohort, folder, **tags):
    shape = label_map().shape
    for case in pd.read_csv(cohort / "metadata.csv")["case_id"]:
        pixels = np.random.default_rng(0).integers(0, 4000, shape).astype(np.uint16)
        films.dicom(folder / f"{case}.dcm", pixels, **tags)
    return folder


def test_the_spacing_of_the_detector_needs_a_magnification(cohort, tmp_path):
    table = pd.read_csv(cohort / "metadata.csv").drop(columns="spacing_mm")
    spacing = [PIXEL * 1.1, PIXEL * 1.1]
    folder = dicom_films(cohort, tmp_path, ImagerPixelSpacing=spacing, PixelSpacing=spacing)
    refused = run(cohort, table, images=folder)
    assert "jsw_min_medial" not in refused.report["measurements"]["errors"]
    assert refused.report["measurements"]["spacing_kinds"]["all"] == {"detector": 24}
    result = run(cohort, table, MeasurementOptions(magnification=1.1), images=folder)
    assert result.report["measurements"]["errors"]["bicondylar_width"]["overall"]["cases"] == 24
    rows = result.measurements[result.measurements["measurement"] == "bicondylar_width"]
    assert rows["reference"].mean() == pytest.approx(84, abs=0.3)
    # A column precedes the option.
    by_case = run(
        cohort, table.assign(magnification=1.1), MeasurementOptions(magnification=1.2), images=folder
    )
    assert by_case.measurements["reference"].equals(result.measurements["reference"])


def test_a_calibrated_film_needs_none(cohort, tmp_path):
    table = pd.read_csv(cohort / "metadata.csv").drop(columns="spacing_mm")
    folder = dicom_films(cohort, tmp_path, ImagerPixelSpacing=[PIXEL * 1.1] * 2, PixelSpacing=[PIXEL, PIXEL])
    result = run(cohort, table, images=folder)
    assert result.report["measurements"]["spacing_kinds"]["sex=male"] == {"calibrated": 12}
    assert result.report["measurements"]["errors"]["jsw_min_medial"]["overall"]["cases"] == 24


@pytest.mark.parametrize(
    ("column", "cell"), [("side", "medial"), ("magnification", "0.5"), ("magnification", "x")]
)
def test_wrong_cells_are_refused_by_row(cohort, column, cell):
    table = pd.read_csv(cohort / "metadata.csv").astype({"side": object})
    table[column] = table[column].astype(object) if column in table else ""
    table.loc[3, column] = cell
    with pytest.raises(InputError, match=rf"3.*{cell}"):
        run(cohort, table)


def test_a_wrong_side_is_a_reason(cohort):
    table = pd.read_csv(cohort / "metadata.csv")
    table["side"] = table["side"].map({"right": "left", "left": "right"})
    errors = run(cohort, table).report["measurements"]["errors"]
    assert "jsw_min_medial" not in errors
    assert errors["bicondylar_width"]["overall"]["cases"] == 24


def test_structures_without_bones_are_refused(cohort):
    with pytest.raises(InputError, match="femur and tibia"):
        audit.masks(
            cohort / "truth",
            cohort / "pred",
            pd.read_csv(cohort / "metadata.csv"),
            ["sex"],
            audit.MaskOptions(labels={f"s{i}": i for i in range(1, 5)}, measurements=MeasurementOptions()),
        )


def manual(measured, **changes):
    rows = measured.measurements[measured.measurements["measurement"].isin(["jsw_min_medial", "fta"])]
    table = rows[["case_id", "measurement"]].assign(value=rows["reference"] + 0.25, reader="A")
    return table.assign(**changes)


def test_values_of_readers_replace_the_reference_masks(cohort, measured):
    table = pd.concat([manual(measured), manual(measured, reader="B")])  # two readers who agree
    result = run(cohort, measurements=MeasurementOptions(manual=table))
    section = result.report["measurements"]
    assert section["against"] == "readers"
    assert list(section["errors"]) == ["jsw_min_medial", "fta"]
    of_men = section["errors"]["jsw_min_medial"]["groups"]["sex=male"]["bias"]["estimate"]
    assert of_men == pytest.approx(-0.25, abs=1e-9)


def test_knees_that_a_prediction_does_not_give_are_counted_by_group_with_their_reason(cohort, tmp_path):
    """A blank prediction of three women has no error, so the page says who is missing from the comparison."""
    shutil.copytree(cohort / "pred", tmp_path / "pred")
    for number in (0, 2, 4):
        path = tmp_path / f"pred/k{number:02d}.png"
        Image.fromarray(np.zeros_like(np.asarray(Image.open(path)))).save(path)
    result = audit.masks(
        cohort / "truth",
        tmp_path / "pred",
        cohort / "metadata.csv",
        ["sex"],
        audit.MaskOptions(labels=LABELS, measurements=DEFAULT),
        audit.Settings(draws=999),
    )
    section = result.report["measurements"]
    assert section["predicted_reasons"]["jsw_min_medial"] == {"the mask has no femur": 3}
    texts = measurements.sentences(page.plain(result.report))
    (text,) = [text for text in texts if text.startswith("Minimum joint space width, medial: in 3 of 24")]
    assert "female 3 of 12" in text and "male 0 of 12" in text and "the mask has no femur" in text


def test_the_headline_names_the_groups_and_separates_small_differences():
    def errors(low, high, p):
        bias = {"estimate": (low + high) / 2, "interval": [low, high], "p": p}
        pair = {"first": "sex=f", "second": "sex=m", "bias": bias}
        groups = {name: {"bias": {"estimate": value}} for name, value in (("sex=f", -1.0), ("sex=m", 0.0))}
        comparison = {"pairs": [pair], "p_adjusted": p}
        return {"unit": "mm", "margin": 0.2, "groups": groups, "attributes": {"sex": comparison}}

    report = {
        "cohort": {"attributes": ["sex"]},
        "measurements": {
            "errors": {
                "jsw_min_medial": errors(-1.2, -0.8, 0.001),
                "jsw_min_lateral": errors(-0.1, -0.05, 0.001),
                "fta": errors(-0.1, 0.1, 0.9),
            }
        },
    }
    (text,) = measurements.headline(report)
    large, small = text.split(";")
    assert "medial" in large and f"f {MINUS}1.00 mm, m 0.00 mm" in large and "lateral" not in large
    assert "lateral" in small and "margin" in small and "angle" not in text


def test_readers_of_two_knees_need_masks_of_both(cohort, measured):
    table = manual(measured).assign(knee="right")
    second = table.iloc[:1].assign(knee="left", value=9.0)
    with pytest.raises(InputError, match="one knee"):
        run(cohort, measurements=MeasurementOptions(manual=pd.concat([table, second], ignore_index=True)))


@pytest.mark.parametrize(
    "words",
    [
        ["--orientation", "flip-lr"],
        ["--equivalence-margin", "dice=0.01"],
        ["--primary", "hd95_mm"],
        ["--no-intersections"],
        ["--pred-mirrored", "x"],
        ["--endpoint", "dice>=0.8"],
    ],
    ids=lambda words: words[0],
)
def test_options_of_scores_are_refused_without_reference_masks(cohort, tmp_path, words):
    start = ["--pred", str(cohort / "pred"), "--attributes", "sex", "--measure", "--manual", "readers.csv"]
    start += ["--metadata", str(cohort / "metadata.csv"), "--out", str(tmp_path / "out")]
    with pytest.raises(InputError, match=words[0].removeprefix("--no-")):
        main([*start, *words])


def test_readers_need_no_reference_masks(cohort, measured, tmp_path, capsys):
    manual(measured).to_csv(tmp_path / "readers.csv", index=False)
    with_masks = run(cohort, measurements=MeasurementOptions(manual=tmp_path / "readers.csv"))
    arguments = [
        "--pred",
        f"a={cohort / 'pred'}",
        f"b={cohort / 'truth'}",
        "--attributes",
        "sex",
        "--measure",
    ]
    arguments += ["--metadata", str(cohort / "metadata.csv"), "--manual", str(tmp_path / "readers.csv")]
    arguments += ["--labels", *(f"{name}={value}" for name, value in LABELS.items()), "--draws", "999"]
    assert main([*arguments, "--out", str(tmp_path / "out")]) == 0
    report = json.loads((tmp_path / "out/report.json").read_text())
    errors = report["measurements"]["errors"]
    assert errors == page.plain(with_masks.report["measurements"]["errors"])
    of_women = json.loads((tmp_path / "out/2-b/report.json").read_text())["measurements"]["errors"]["fta"]
    assert of_women["overall"]["cases"] == errors["fta"]["overall"]["cases"]
    for name in ("index.html", "2-b/index.html", "measurements.csv", "measurement_errors.csv"):
        assert (tmp_path / "out" / name).stat().st_size > 1000
    assert str(tmp_path) not in (tmp_path / "out/index.html").read_text()
    assert set(pd.read_csv(tmp_path / "out/measurement_errors.csv")["model"]) == {"a", "b"}
    assert str(tmp_path / "out/2-b/index.html") in capsys.readouterr().out
    with pytest.raises(InputError, match="--overwrite"):
        main([*arguments, "--out", str(tmp_path / "out")])
    with pytest.raises(InputError, match="--label-errors"):
        main([*arguments, "--out", str(tmp_path / "other"), "--label-errors", "auto"])
    with pytest.raises(InputError, match="--measure"):
        main([argument for argument in arguments if argument != "--measure"] + ["--out", str(tmp_path / "x")])


@pytest.mark.parametrize(
    "changes",
    [
        {"magnification": 2.0},
        {"margins": {"hka": 1.0}},
        {"margins": {"fta": 0.0}},
        {"thresholds": {"jsw": 3.0}},
    ],
    ids=str,
)
def test_options_without_meaning_are_refused(cohort, changes):
    with pytest.raises(InputError):
        run(cohort, measurements=MeasurementOptions(**changes))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"measurement": "hka"}, "jsw_min_medial, "),
        ({"value": "wide"}, "no number"),
        ({"unit": "cm"}, "not in cm"),
        ({"case_id": "other"}, "none of its cases"),
    ],
)
def test_a_wrong_table_of_readers(cohort, measured, changes, message):
    with pytest.raises(InputError, match=message):
        run(cohort, measurements=MeasurementOptions(manual=manual(measured, **changes)))


def test_options_of_the_command_line():
    assert measuring.parse_values(["fta=2", "jsw_min_medial=0.5"], "--clinical-margin") == {
        "fta": 2.0,
        "jsw_min_medial": 0.5,
    }
    for words in (["fta"], ["hka=1"], ["fta=1", "fta=2"], ["fta=x"]):
        with pytest.raises(InputError, match="--decision"):
            measuring.parse_values(words, "--decision")


def test_both_knees_of_a_film(tmp_path):
    structures = {
        f"{side} {name}": 10 * i + label
        for i, side in enumerate(("right", "left"), 1)
        for name, label in LABELS.items()
    }
    for name, grow in (("truth", 0.0), ("pred", 0.5)):
        (tmp_path / name).mkdir()
        halves = [
            np.where((label := label_map(side=side, grow=grow)) > 0, label + 10 * i, 0).astype(np.uint8)
            for i, side in enumerate(("right", "left"), 1)
        ]
        for case in ("a", "b"):
            Image.fromarray(np.concatenate(halves, axis=1)).save(tmp_path / name / f"{case}.png")
    table = pd.DataFrame({"case_id": ["a", "b"], "sex": ["f", "m"], "spacing_mm": PIXEL})
    result = audit.masks(
        tmp_path / "truth",
        tmp_path / "pred",
        table,
        ["sex"],
        audit.MaskOptions(labels=structures, measurements=MeasurementOptions()),
        audit.Settings(draws=999),
    )
    rows = result.measurements[result.measurements["measurement"] == "jsw_min_medial"]
    assert sorted(rows["knee"]) == ["left", "left", "right", "right"]
    assert rows["error"].tolist() == pytest.approx([-1] * 4, abs=0.15)


def test_a_prediction_without_a_fibula_is_measured_on_the_side_of_the_reference(cohort, tmp_path):
    for path in (cohort / "truth").iterdir():
        label = np.asarray(Image.open(path))
        Image.fromarray(np.where(label == LABELS["fibula"], 0, label)).save(tmp_path / path.name)
    table = pd.read_csv(cohort / "metadata.csv").drop(columns="side")
    options = audit.MaskOptions(labels=LABELS, measurements=DEFAULT)
    result = audit.masks(cohort / "truth", tmp_path, table, ["sex"], options, audit.Settings(draws=999))
    rows = result.measurements
    assert set(rows["predicted_reason"]) == {""}
    assert (rows["error"].dropna() == 0).all()


def test_knees_without_a_reference_value_are_counted_by_group(cohort):
    """A closed joint space of women has no value, and the page says so."""
    table = pd.read_csv(cohort / "metadata.csv")
    table.loc[table["sex"] == "female", "spacing_mm"] = np.nan
    errors = run(cohort, table).report["measurements"]["errors"]["jsw_min_medial"]
    assert errors["groups"]["sex=female"]["without_reference"]["count"] == 12
    assert errors["groups"]["sex=male"]["without_reference"]["count"] == 0
    assert errors["groups"]["sex=female"]["bias"]["estimate"] is None
