"""Films of other shapes than the working grid's: stretched, or padded."""

import json

import numpy as np
import pytest

from kneefair_jax import predict
from kneefair_jax.data import readers
from kneefair_jax.errors import InputError
from kneefair_jax.predict import placement
from tests.predict.networks import write

TALL = np.random.default_rng(0).integers(0, 256, (32, 16), dtype=np.uint8)


@pytest.mark.parametrize(
    ("size", "grid", "rows", "columns"),
    [
        ((20, 10), (16, 16), (0, 16), (4, 12)),
        ((10, 20), (16, 16), (4, 12), (0, 16)),
        ((7, 7), (16, 16), (0, 16), (0, 16)),
        ((3000, 2000), (128, 128), (0, 128), (21, 106)),  # 85.3 columns
        ((2000, 2000), (16, 32), (0, 16), (8, 24)),
        ((1, 10_000), (16, 16), (7, 8), (0, 16)),
    ],
)
def test_padding_keeps_the_aspect_ratio_and_centers(size, grid, rows, columns):
    assert placement.place(size, grid, "pad") == (slice(*rows), slice(*columns))
    assert placement.place(size, grid, "stretch") == (slice(0, grid[0]), slice(0, grid[1]))


def test_a_padded_film_is_seen_as_a_film_with_black_borders(tmp_path):
    path = write(tmp_path / "w.safetensors", sure=20.0)
    stretched, padded = predict.load(path), predict.load(path, fit="pad")
    bordered = np.pad(readers.resize_image(TALL[..., None], (16, 8))[..., 0], ((0, 0), (4, 4)))
    seen = padded.probabilities([TALL])
    np.testing.assert_allclose(seen, stretched.probabilities([bordered]), atol=1e-6)
    assert abs(seen - stretched.probabilities([TALL])).max() > 0.01
    (mask,) = padded([TALL])
    np.testing.assert_array_equal(mask, readers.labels_at(seen[0, :, 4:12], TALL.shape))
    square = TALL[:16]
    np.testing.assert_array_equal(padded([square])[0], stretched([square])[0])


def test_the_confidence_is_of_the_film_without_its_border(tmp_path):
    path = write(tmp_path / "w.safetensors", sure=20.0)
    (prediction,) = predict.load(path, fit="pad").predict([TALL])
    inside = predict.load(path, fit="pad").probabilities([TALL])[0][:, 4:12]
    label, sure = inside.argmax(-1), inside.max(-1)
    for value, confidence in enumerate(prediction.confidence.values(), start=1):
        expected = sure[label == value].mean() if (label == value).any() else np.nan
        np.testing.assert_allclose(confidence, expected, rtol=1e-5)


def test_the_network_s_description_decides_unless_told_otherwise(tmp_path):
    old = write(tmp_path / "old.safetensors")
    new = write(tmp_path / "new.safetensors", seed=1, fit="pad")
    assert "fit" not in json.loads(old.with_suffix(".json").read_text())
    assert (predict.load(old).fit, predict.load(new).fit) == ("stretch", "pad")
    assert predict.load(new, fit="stretch").fit == predict.load(old, new, fit="stretch").fit == "stretch"
    with pytest.raises(InputError, match="differ in --fit"):
        predict.load(old, new)
    with pytest.raises(InputError, match="give one of stretch, pad"):
        predict.load(old, fit="crop")
