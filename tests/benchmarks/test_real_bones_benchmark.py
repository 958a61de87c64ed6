import numpy as np
import pandas as pd
from PIL import Image

from benchmarks import real_bones, real_bones_training
from kneefair_jax import anatomy
from kneefair_jax.predict.prediction import Outline, Prediction


class Constant:
    """A predictor of one mask, and of outlines if it has overlap classes."""

    def __init__(self, structures, mask):
        self.structures = tuple(name for name in structures if name not in anatomy.OVERLAPS)
        bones = anatomy.whole_bones(structures)
        members = anatomy.membership(structures, bones)
        outlines = {name: Outline(row[mask], 1.0) for name, row in zip(bones, members, strict=True)}
        front = anatomy.translation(structures, self.structures)[mask]
        self.prediction = Prediction(front, {}, (), outlines)

    def predict(self, images, warn):
        assert not warn
        return [self.prediction for _ in images]


def write(folder):
    """One film of 4 x 4: femur rows 0-1, tibia row 3, patella column 0 of rows 0-1 and nothing outside."""
    for name in ("images", "masks", "outlines"):
        (folder / name).mkdir()
    femur, tibia, patella = (np.zeros((4, 4), bool) for _ in range(3))
    femur[:2], tibia[3], patella[:2, 0] = True, True, True
    mask = np.where(patella, 4, np.where(femur, 1, np.where(tibia, 2, 0))).astype(np.uint8)
    Image.fromarray(mask).save(folder / "images" / "a.png")
    Image.fromarray(mask).save(folder / "masks" / "a.png")
    np.savez(folder / "outlines" / "a.npz", femur=femur, tibia=tibia, patella=patella)
    row = {"case_id": "a", "image": "images/a.png", "mask": "masks/a.png"}
    pd.DataFrame([row]).to_csv(folder / "metadata.csv", index=False)
    return mask


def test_unions_of_both_schemes_are_scored(tmp_path):
    truth = write(tmp_path)
    perfect = real_bones.score(Constant(("femur", "tibia", "fibula", "patella"), truth), tmp_path)
    np.testing.assert_array_equal(perfect.to_numpy(), 1.0)
    structures = ("femur", "tibia", "fibula", "patella", "femur and patella", "tibia and fibula")
    overlaps = np.where(truth == 4, 5, np.where(truth == 2, 6, truth))
    perfect = real_bones.score(Constant(structures, overlaps), tmp_path)
    np.testing.assert_array_equal(perfect.to_numpy(), 1.0)
    larger = overlaps.copy()
    larger[2, 0] = 4  # the patella beyond the femur, of which it is no part
    scores = real_bones.score(Constant(structures, larger), tmp_path).loc["a"]
    assert (scores["whole femur"], scores["whole patella"]) == (1, 4 / 5)
    shifted = np.roll(overlaps, 1, axis=1)  # one of the four columns of femur without patella leaves it
    scores = real_bones.score(Constant(structures, shifted), tmp_path).loc["a"]
    assert scores.to_dict() == {"whole femur": 1, "tibia": 1, "whole patella": 0, "exclusive femur": 2 / 3}


def test_summary_and_table():
    scores = pd.DataFrame({"tibia": [1.0, 0.5, np.nan]}, index=["a", "b", "c"])
    entry = real_bones.summary(scores)["tibia"]
    assert (entry["mean"], entry["worst"], entry["worst_case"], entry["films"]) == (0.75, 0.5, "b", 2)
    assert entry["percentile_5"] == 0.525
    assert "0.7500  0.5250  0.5000  2" in real_bones.table({"tibia": entry})


def test_films_to_train_on_have_overlap_classes_and_no_patient_in_two_splits(tmp_path):
    films = tmp_path / "films"
    for name in ("images", "outlines"):
        (films / name).mkdir(parents=True)
    cases = [f"{knee}-{number}" for knee in ("A", "B", "C") for number in range(3)]
    femur, patella = np.array([[1, 1, 0, 0]], bool), np.array([[0, 1, 1, 0]], bool)
    tibia = np.array([[1, 0, 0, 1]], bool)
    rows = []
    for case in cases:
        np.savez(films / "outlines" / f"{case}.npz", femur=femur, patella=patella, tibia=tibia)
        rows.append({"case_id": case, "patient_id": case[0], "mask": f"masks/{case}.png"})
    pd.DataFrame(rows).to_csv(films / "metadata.csv", index=False)
    real_bones_training.cohort(films, tmp_path / "cohort", ["A-0", "A-2", "C-1"])
    table = pd.read_csv(tmp_path / "cohort/metadata.csv")
    assert table["mask"].tolist() == [f"masks/{case}.png" for case in ("A-0", "A-2", "C-1", "A-0", "A-2")]
    assert table["split"].tolist() == ["train", "train", "train", "validation", "test"]
    assert table["case_id"].is_unique and (table.groupby("patient_id")["split"].nunique() == 1).all()
    # Femur and patella share the second pixel; the tibia lies behind the femur in the first.
    assert np.asarray(Image.open(tmp_path / "cohort/masks/A-0.png")).tolist() == [[1, 5, 4, 2]]
