import os
import threading

import numpy as np
import pytest
from PIL import Image

from kneefair_jax.data import palettes
from kneefair_jax.errors import InputError

GRAY = np.repeat(np.arange(256, dtype=np.uint8)[:, None], 3, axis=1)


def palette(*colors):
    result = np.zeros((256, 3), np.uint8)
    result[: len(colors)] = [(c, c, c) if isinstance(c, int) else c for c in colors]
    return result


def index_image(path, index, colors):
    image = Image.frombytes("P", index.shape[::-1], index.astype(np.uint8).tobytes())
    image.putpalette(colors.ravel().tolist())
    image.save(path)
    return path


INDEX = np.array([[0, 1], [2, 2]])


@pytest.mark.parametrize(
    ("colors", "values", "expected"),
    [
        (GRAY, (1, 2), INDEX),
        (palette(2, 0, 1), (1, 2), [[2, 0], [1, 1]]),  # sorted anew, all of them labels
        (palette(2, 0, 1), (), [[2, 0], [1, 1]]),
        (palette(0, 127, 255), (1, 2), INDEX),  # grays to look at
        (palette(0, 127, 255), (), INDEX),
        (palette(0, 127, 255), (127, 255), [[0, 127], [255, 255]]),
        (palette((0, 0, 0), (255, 0, 0), (0, 0, 255)), (1, 2), INDEX),
        (palette(0, 5, 9), (1, 2), INDEX),  # small, but no labels
        (palette(0), (1, 2), INDEX),  # entries that nobody set
        (palette(0), (), INDEX),
    ],
)
def test_indices_or_what_they_show(tmp_path, colors, values, expected):
    path = index_image(tmp_path / "a.png", INDEX, colors)
    np.testing.assert_array_equal(palettes.read(path)[:3], colors[:3])
    np.testing.assert_array_equal(palettes.labels(INDEX, colors, values, path), expected)


def test_both_could_be_labels(tmp_path):
    with pytest.raises(InputError, match="a.png.*without a palette"):
        palettes.labels(INDEX, palette(0, 127, 255), (1, 2, 127, 255), tmp_path / "a.png")


def test_files_without_a_palette(tmp_path):
    Image.fromarray(INDEX.astype(np.uint8)).save(tmp_path / "a.png")
    (tmp_path / "b.png").write_bytes(b"none")
    assert [palettes.read(tmp_path / name) for name in ("a.png", "b.png", "c.png", "a.npy")] == [None] * 4


def test_a_named_pipe_is_not_opened(tmp_path):
    os.mkfifo(tmp_path / "p.png")
    palette_of = []
    thread = threading.Thread(
        target=lambda: palette_of.append(palettes.read(tmp_path / "p.png")), daemon=True
    )
    thread.start()
    thread.join(10)
    assert palette_of == [None]


def read(path):
    return np.array(Image.open(path))


RED, BLUE = (255, 0, 0), (0, 0, 255)


@pytest.mark.parametrize(
    ("other", "same"),
    [
        (palette(0, RED, BLUE), True),
        (palette(0, BLUE, RED), False),
        (palette(RED, 0, BLUE), False),
        (palette(0, RED, (0, 255, 0)), False),  # one index, two colors
        (palette(0, 1, 2), True),  # gray values are the labels
        (GRAY, True),
    ],
)
def test_files_of_a_folder_agree(tmp_path, other, same):
    paths = [
        index_image(tmp_path / "a.png", INDEX, palette(0, RED, BLUE)),
        index_image(tmp_path / "b.png", INDEX, other),
        tmp_path / "missing.png",
    ]
    if same:
        palettes.check(paths, read, (1, 2))
    else:
        with pytest.raises(InputError, match="b.png.*a.png.*without a palette"):
            palettes.check(paths, read, (1, 2))


def test_unused_black_entries_are_accepted(tmp_path):
    paths = [index_image(tmp_path / f"{name}.png", INDEX, palette(0)) for name in "ab"]
    palettes.check(paths, read, (1, 2))
