"""Twins: exact paired effects of a planted switch, for predictors whose errors are known."""

import numpy as np
import pandas as pd
import pytest

from kneefair_jax.audit import twins
from kneefair_jax.cli import main
from kneefair_jax.errors import InputError
from kneefair_jax.measurements import BONES
from tests.predict.networks import write

SMALL = twins.Films((96, 96), 180.0)


def bright_pixels(film):
    """A predictor that calls the brightest pixels femur, and the rest of the bright ones tibia."""
    image = film.astype(float)
    return {"femur": image > np.quantile(image, 0.9), "tibia": image > np.quantile(image, 0.8)}


def test_a_predictor_that_ignores_the_film_has_no_effect_but_that_of_the_mask():
    masks = {bone: np.zeros((96, 96), bool) for bone in BONES}
    masks["femur"][10:40, 30:60] = True
    table = twins.study(lambda film: masks, 3, ["contrast", "noise", "marker"], SMALL)
    of_femur = table[table["score"] == "dice femur"]
    # These switches do not change the mask, so the score stays.
    assert (of_femur["change"] == 0).all() and len(of_femur) == 9
    assert of_femur["baseline"].between(0.01, 0.99).all()


def test_a_sensitive_predictor_changes_and_the_same_seed_repeats_it():
    first = twins.study(bright_pixels, 3, ["noise"], SMALL)
    again = twins.study(bright_pixels, 3, ["noise", "noise"], SMALL)  # each switch counts once
    other = twins.study(bright_pixels, 3, ["noise"], SMALL._replace(seed=1))
    pd.testing.assert_frame_equal(first, again)
    changes = first[first["score"] == "dice femur"]["change"]
    assert (changes != 0).all()
    assert not np.allclose(changes, other[other["score"] == "dice femur"]["change"])


def test_effects_by_hand():
    rows = [
        ("noise", knee, "dice femur", "", 0.9, 0.9 + change) for knee, change in enumerate((-0.1, -0.2, -0.3))
    ]
    rows += [
        ("contrast", knee, "error fta", "degrees", 1.0, value)
        for knee, value in enumerate((2.0, np.nan, np.nan))
    ]
    table = pd.DataFrame(rows, columns=["switch", "knee", "score", "unit", "baseline", "with_switch"])
    table["change"] = table["with_switch"] - table["baseline"]
    effects = twins.effects(table)
    assert effects["switch"].tolist() == ["contrast", "noise"]
    contrast, noise = effects.itertuples()
    assert (contrast.mean, contrast.knees) == (1.0, 1) and np.isnan(contrast.low)
    half = 4.302652729911275 * 0.1 / np.sqrt(3)  # Student's t with two degrees of freedom
    assert noise.mean == pytest.approx(-0.2)
    assert (noise.low, noise.high) == pytest.approx((-0.2 - half, -0.2 + half))


def test_what_cannot_be_drawn():
    with pytest.raises(InputError, match="contrast"):
        twins.study(bright_pixels, 3, ["annotation"], SMALL)
    with pytest.raises(InputError, match="2 or more"):
        twins.study(bright_pixels, 1, ["noise"], SMALL)


def test_the_command(tmp_path, capsys):
    network = write(tmp_path / "w.safetensors", ("femur", "tibia", "fibula", "patella"))
    words = ["--checkpoint", str(network), "--switches", "noise", "--knees", "2", "--size", "96"]
    assert main.twins([*words, "--out", str(tmp_path / "out")]) == 0
    effects = pd.read_csv(tmp_path / "out/twin_effects.csv")
    assert set(effects["switch"]) == {"noise"} and "dice femur" in set(effects["score"])
    assert len(pd.read_csv(tmp_path / "out/twins.csv")) == 2 * len(effects)
    assert "dice femur" in capsys.readouterr().out
    assert main.twins([*words, "--out", str(tmp_path / "out")]) == 2
    assert main.twins([*words, "--out", str(tmp_path / "out"), "--overwrite"]) == 0
    chest = write(tmp_path / "chest.safetensors", ("lung", "heart"))
    assert main.twins(["--checkpoint", str(chest), "--out", str(tmp_path / "other")]) == 2
    assert not (tmp_path / "other").exists()
