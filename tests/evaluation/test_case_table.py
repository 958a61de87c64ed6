"""Scores at the size of the reference masks, worked out by hand."""

import jax
import numpy as np
import pandas as pd
import pytest

from kneefair_jax import anatomy, groups
from kneefair_jax.data.cohort_loader import Cohort
from kneefair_jax.data.source import Example, Source
from kneefair_jax.errors import InputError
from kneefair_jax.evaluation import case_scores, case_table
from kneefair_jax.training import scoring, setup
from tests.training import study


def whole(rows):
    """A broken case, then one column of the structure of four, pixels being twice as high as wide; then all four."""
    for row in rows:
        label = np.zeros((4, 4), np.uint8)
        label[:, 3 if row == 1 else 0 :] = 1
        spacing = np.array([1, 0.5], np.float32)
        yield InputError("a.png: gone") if row == 0 else Example(label[..., None], label, spacing)


@pytest.fixture
def cohort():
    table_of_cases = pd.DataFrame({"case_id": ["broken", "a", "b"], "patient_id": ["p", "q", "r"]})
    source = Source(table_of_cases, ("bone",), {}, None, read_native=whole)
    cases = table_of_cases.iloc[1:].assign(
        split="test", sex=groups.categorical(pd.Series(["f", "m"], index=[1, 2]))
    )
    return Cohort(source, cases.reset_index(drop=True), ("sex",), ("bone",), (2, 2, 1), has_names=True)


def scored(cohort, rows):
    """A network that is sure of background on the left, and of the structure on the right."""
    probability = np.zeros((2, 2, 2), np.float32)
    probability[:, 0, 0] = probability[:, 1, 1] = 1
    case = {"image": np.zeros((2, 2, 1), np.uint8), "label": np.zeros((2, 2), np.uint8)}
    cases = [case | {"spacing": np.array([2, 1], np.float32)}] * len(cohort.cases)

    def step(variables, batch):
        size = len(batch["case"])
        return {
            "dice": np.full((size, 1), 0.25),
            "ece": np.zeros((size, 1)),
            "soft_dice": np.zeros((size, 1)),
            "prediction": np.zeros((size, 2, 2), np.uint8),
            "probability": np.stack([probability] * size),
        }

    split = case_scores.EvalSplit(
        cohort, cases, np.array(rows), np.zeros(len(cases), int), step, True, np.arange(2)
    )
    return split, case_scores.score(split, [scoring.GroupModel()], [None], batch_size=8)


def test_masks_are_compared_at_the_size_of_the_reference(cohort):
    split, values = scored(cohort, [1, 0, 1])
    assert "probability" not in values
    np.testing.assert_array_equal(values["grid_dice"], np.full((3, 1), 0.25))
    table = case_table.table(values, split, "overall")
    assert list(table["case_id"]) == ["b", "a", "b"]
    # Enlarged, the prediction is the right half: 8 pixels of 0.5 mm2. Of a the right column is true, of b everything.
    np.testing.assert_allclose(table["pred_area_mm2"], [4, 4, 4])
    np.testing.assert_allclose(table["true_area_mm2"], [8, 2, 8])
    np.testing.assert_allclose(table["dice"], [2 / 3, 2 / 3, 2 / 3])
    np.testing.assert_allclose(table["iou"], [0.5, 0.5, 0.5])
    # The surfaces of a are a column of half a millimetre apart; b has none in the image.
    assert table[["hd95_mm", "assd_mm", "nsd"]].iloc[1].tolist() == [0.5, 0.5, 1]


def test_void_pixels_of_the_reference_are_in_neither_mask(cohort):
    def void(rows):
        for case in whole(rows):
            case.label[:2, 3] = anatomy.VOID  # half of the right column
            yield case

    source = cohort.source._replace(read_native=void, void=True)
    split, values = scored(cohort._replace(source=source), [0])
    table = case_table.table(values, split, "overall")
    # The prediction is the right half, 8 pixels of 0.5 mm2, of which 2 are void; the truth is 2 pixels.
    assert table["pred_area_mm2"].tolist() == [3] and table["true_area_mm2"].tolist() == [1]
    assert values["pred_pixels"].tolist() == [[6]] and values["true_pixels"].tolist() == [[2]]
    np.testing.assert_allclose(table["dice"], [2 * 2 / (6 + 2)])


def test_a_pixel_takes_its_likeliest_label_before_the_translation(cohort):
    """As on the grid: a label that the cohort does not have becomes background only after it was the likeliest."""
    split, _ = scored(cohort, [1])
    probability = np.array([0.3, 0.3, 0.4], np.float32).reshape(1, 1, 1, 3).repeat(2, 1).repeat(2, 2)
    values = {"probability": probability, "dice": np.zeros((1, 1))}
    translated = split._replace(translation=np.array([0, 0, 1]))
    np.testing.assert_array_equal(
        case_scores._score_native(translated, values, np.array([1]))["dice"], [[1.0]]
    )


def test_overlap_classes_are_scored_as_whole_bones(cohort):
    """The network is sure of the patella on the left and of femur and patella on the right; the truth is femur."""
    split, _ = scored(cohort, [1])
    structures = anatomy.SCHEMES["knee_overlaps"]
    probability = np.eye(7, dtype=np.float32)[[[4, 5], [4, 5]]][None]
    values = {"probability": probability, "dice": np.zeros((1, 1))}
    knee = split._replace(cohort=cohort._replace(structures=structures), translation=np.arange(7))
    scores = case_scores._score_native(knee, values, np.array([1]))  # the truth fills the picture
    np.testing.assert_allclose(scores["dice"], [[2 / 3, np.nan, np.nan, 0]])
    assert scores["pred_pixels"].tolist() == [[8, 0, 0, 16]]
    assert scores["true_pixels"].tolist() == [[16, 0, 0, 0]]
    columns = dict.fromkeys(("ece", "soft_dice", "true_area_mm2", "pred_area_mm2"), np.zeros((1, 4)))
    table = case_table.table(scores | columns, knee._replace(rows=np.array([1])), "overall")
    assert table["structure"].tolist() == ["whole femur", "whole tibia", "whole fibula", "whole patella"]


def test_masks_may_draw_the_fibula_in_front(cohort):
    """The network is sure of tibia and fibula; the masks of another cohort call these pixels one or the other."""
    split, _ = scored(cohort, [1])
    overlaps, mask_structures = anatomy.SCHEMES["knee_overlaps"], ("fibula", "tibia")
    values = {"probability": np.eye(7, dtype=np.float32)[np.full((1, 2, 2), 6)], "dice": np.zeros((1, 2))}
    for in_front, dice in {"": [0, 0], "fibula": [1, np.nan]}.items():
        translation = anatomy.translation(overlaps, mask_structures, in_front)
        knee = split._replace(cohort=cohort._replace(structures=mask_structures), translation=translation)
        scores = case_scores._score_native(knee, values, np.array([1]))  # the fibula fills the picture
        np.testing.assert_array_equal(scores["dice"], [dice])


def test_the_error_names_the_unreadable_file(cohort):
    cases = cohort.source.cases.assign(split="test", sex=groups.categorical(pd.Series(["f", "m", "m"])))
    with pytest.raises(InputError, match=r"a\.png: gone"):
        scored(cohort._replace(cases=cases), [1, 0])


def test_scores_and_label_maps_do_not_depend_on_the_chunks(cohort, monkeypatch):
    rng = np.random.default_rng(0)
    cases = [
        {
            "image": rng.integers(0, 2, (4, 4, 1), np.uint8),
            "label": rng.integers(0, 2, (4, 4), np.uint8),
            "spacing": np.array([2, 1], np.float32),
        }
        for _ in range(20)
    ]
    table_of_cases = pd.DataFrame({"case_id": [f"c{k}" for k in range(20)]})
    cohort = cohort._replace(cases=table_of_cases, source=cohort.source._replace(read_native=None))

    @jax.jit
    def step(variables, batch):
        prediction = batch["image"][..., 0]
        pixels = {"true_pixels": batch["label"], "pred_pixels": prediction}
        pixels = {name: mask.astype(np.int32).sum((1, 2))[:, None] for name, mask in pixels.items()}
        return pixels | {"dice": pixels["pred_pixels"] / 16, "prediction": prediction}

    rows = rng.permutation(20)[:18]
    split = case_scores.EvalSplit(cohort, cases, rows, np.zeros(20, int), step, False, np.arange(2))
    results = []
    for chunk in (8, 512):
        monkeypatch.setattr(case_scores, "CHUNK", chunk)
        maps = {}
        write = lambda ids, arrays, maps=maps: maps.update(zip(ids, arrays, strict=True))
        values = case_scores.score(split, [scoring.GroupModel()], [None], 8, write)
        assert list(maps) == [f"c{row}" for row in rows]
        results.append(values | maps)
    assert results[0].keys() == results[1].keys()
    for name, value in results[0].items():
        np.testing.assert_array_equal(value, results[1][name])
    assert results[0]["hd95_mm"].shape == (18, 1) and results[0]["pred_area_mm2"].max() > 0


def test_structures_that_a_mask_does_not_show_have_no_score_and_no_pixel():
    cohort = study.cohort()
    cells = [("disc",) if row % 2 else () for row in range(len(cohort.cases))]
    cohort = cohort._replace(cases=cohort.cases.assign(annotated_structures=cells))
    cases = [study.example(row).arrays() for row in range(len(cells))]
    experiment = setup.build(study.config(), cohort)
    split = case_scores.eval_split(experiment, cohort, (cohort, cases), "working")
    split = split._replace(rows=np.arange(6))
    models, variables = [scoring.GroupModel()], [experiment.state.variables]
    values = case_scores.score(split, models, variables, batch_size=8)
    whole = split._replace(cohort=cohort._replace(cases=cohort.cases.drop(columns="annotated_structures")))
    expected = case_scores.score(whole, models, variables, batch_size=8)
    for name in case_table.SCORES:
        np.testing.assert_array_equal(values[name][:, 0], expected[name][:, 0])
        np.testing.assert_array_equal(values[name][::2], expected[name][::2])
        assert np.isnan(values[name][1::2, 1]).all()
    assert not values["true_pixels"][1::2, 1].any() and not values["pixels"][1::2, 1].any()
    assert not np.isnan(values["confidence"]).any()
    table = case_table.table(values, split, "overall")
    hidden = table[(table["structure"] == "square") & table["case_id"].isin(["c01", "c03", "c05"])]
    assert len(hidden) == 3 and hidden[list(case_table.SCORES)].isna().all().all()
