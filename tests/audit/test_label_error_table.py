"""A network that sees what a film shows in grey; one reference mask is of another film."""

import numpy as np
import pandas as pd
import pytest

from kneefair_jax import audit, predict
from kneefair_jax.audit.__main__ import main
from kneefair_jax.errors import InputError
from kneefair_jax.predict import films
from kneefair_jax.predict.predictor import Prediction
from tests.audit import folder

LABELS = {"femur": 1, "tibia": 2}


class Network:
    structures = ("femur", "tibia", "fibula", "patella")

    def require_group(self, group):
        assert group is None

    def segment(self, images, warn):
        assert not warn
        return [Prediction(image[..., 0] // 100, dict.fromkeys(self.structures, 1.0)) for image in images]


@pytest.fixture
def root(tmp_path, monkeypatch):
    folder.write(tmp_path)
    for i in range(folder.CASES):
        # Every film is seen a pixel wrong somewhere, or nothing would be unusual.
        film = 100 * folder.truth_of(i)
        film[4 + i % 7, 3 + i % 5] ^= 100
        folder.save(film, tmp_path / "films" / f"c{i}.png")
    folder.save(np.roll(folder.truth_of(5), (4, 5), (0, 1)), tmp_path / "truth" / "c5.png")
    monkeypatch.setattr(
        predict, "load", lambda name, batch_size, raw: Network() if name == "phantom" else None
    )
    return tmp_path


def masks(root, **options):
    settings = audit.Settings(draws=40, min_group_patients=2)
    inputs = (root / "truth", root / "pred", root / "metadata.csv", ["sex"])
    return audit.masks(*inputs, audit.MaskOptions(**{"labels": LABELS} | options), settings)


def test_the_mask_of_another_place_is_named_on_the_page_and_in_a_table(root):
    result = masks(root, images=root / "films", label_error_checkpoint="auto")
    assert result.label_errors["case_id"].tolist() == ["c5"] and result.label_errors["score"][0] > 5
    text = "1 (c5: fits better when moved 4 pixels up and 5 pixels left), all in label_errors.csv."
    assert any(note.endswith(text) for note in result.notes), result.notes
    result.write(root / "out")
    written = pd.read_csv(root / "out" / "label_errors.csv")
    assert written["reason"].tolist() == result.label_errors["reason"].tolist()
    assert "c5: fits better when moved" in (root / "out" / "index.html").read_text()


def test_by_the_command_line_and_where_all_is_well(root, capsys):
    folder.save(folder.truth_of(5), root / "truth" / "c5.png")
    paths = {"truth": "truth", "pred": "pred", "metadata": "metadata.csv", "images": "films", "out": "out"}
    argv = [word for name, path in paths.items() for word in (f"--{name}", str(root / path))]
    argv += ["--attributes", "sex", "--labels", "femur=1", "tibia=2", "--draws", "40", "--label-errors"]
    assert main(argv) == 0
    assert "note: No reference mask looks wrong by a network's masks" in capsys.readouterr().out
    assert (root / "out" / "label_errors.csv").read_text() == "case_id,score,dice,reason\n"


def test_a_note_on_a_film_is_not_divided(root, monkeypatch):
    read = films.read
    monkeypatch.setattr(films, "read", lambda path: read(path)._replace(notes=("one; the same", "two")))
    lines = [
        note
        for note in masks(root, images=root / "films", label_error_checkpoint="auto").notes
        if "Film" in note
    ]
    assert [line.partition(" (")[0].partition(": ")[2] for line in lines] == ["one; the same", "two"]


def test_none_is_asked_for_and_none_is_compared(root):
    result = masks(root, images=root / "films")
    assert result.label_errors is None
    result.write(root / "out")
    assert not (root / "out" / "label_errors.csv").exists()


def test_what_cannot_be_compared_is_refused(root):
    with pytest.raises(InputError, match="0 of 24 cases have a film; give 6 or more with --images"):
        masks(root, label_error_checkpoint="auto")
    folder.save(np.arange(16 * 24, dtype=np.uint16).reshape(16, 24) // 2 % 256, root / "films" / "c3.png")
    with pytest.raises(
        InputError, match=r"c3\.png: 16 x 24 pixels, its mask .*c3\.png 20 x 24; --label-errors"
    ):
        masks(root, images=root / "films", label_error_checkpoint="auto")
    with pytest.raises(InputError, match="label scheme: 'thumb' is none of"):
        masks(root, images=root / "films", label_error_checkpoint="auto", labels={"femur": 1, "thumb": 2})
