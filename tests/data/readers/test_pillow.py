import struct
import zlib

import cv2
import numpy as np
import pytest

from kneefair_jax.data import readers
from kneefair_jax.errors import InputError

RNG = np.random.default_rng(0)
ADAM7 = ((0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1))


def lines_of(rows, channels, filters):
    """u16[H, W, channels] -> its bytes, row k filtered by `filters[k]`."""
    raw = rows.astype(">u2").view(np.uint8).reshape(len(rows), -1).astype(int)
    size = 2 * channels
    lines = []
    for y, kind in enumerate(filters):
        up = raw[y - 1] if y else np.zeros_like(raw[0])
        left, both = (np.concatenate([np.zeros(size, int), row[:-size]]) for row in (raw[y], up))
        guess = left + up - both
        to_left, to_up, to_both = abs(guess - left), abs(guess - up), abs(guess - both)
        paeth = np.where(
            (to_left <= to_up) & (to_left <= to_both), left, np.where(to_up <= to_both, up, both)
        )
        predicted = [0 * left, left, up, (left + up) // 2, paeth][kind]
        lines.append(bytes([kind]) + ((raw[y] - predicted) % 256).astype(np.uint8).tobytes())
    return b"".join(lines)


def write(path, rows, channels, filters=None, interlaced=False, width=None):
    """A PNG of 16 bits of u16[H, W, channels]; the filters are of its rows, of a pass the first of them."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    colour = {2: 4, 3: 2, 4: 6}[channels]
    passes = [rows[top::down, left::across] for top, left, down, across in ADAM7] if interlaced else [rows]
    data = zlib.compress(b"".join(lines_of(one, channels, filters[: len(one)]) for one in passes if one.size))
    head = struct.pack(">IIBBBBB", width or rows.shape[1], len(rows), 16, colour, 0, 0, interlaced)
    half = len(data) // 2
    parts = [
        chunk(b"IHDR", head),
        chunk(b"IDAT", data[:half]),
        chunk(b"IDAT", data[half:]),
        chunk(b"IEND", b""),
    ]
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(parts))
    return path


@pytest.mark.parametrize("interlaced", [False, True])
@pytest.mark.parametrize("channels", [2, 3, 4])
@pytest.mark.parametrize("shape", [(15, 9), (1, 7), (8, 1), (1, 1), (3, 5)])
def test_every_filter(tmp_path, channels, shape, interlaced):
    pixels = RNG.integers(0, 2**16, (*shape, channels)).astype(np.uint16)
    path = write(tmp_path / "a.png", pixels, channels, [y % 5 for y in range(shape[0])], interlaced)
    image, _ = readers.read_image(path)
    np.testing.assert_array_equal(image, pixels[..., : 1 if channels == 2 else 3])
    if channels > 2:
        read = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
        np.testing.assert_array_equal(read[..., [2, 1, 0]], pixels[..., :3])


def test_labels_beside_alpha(tmp_path):
    labels = RNG.integers(0, 5, (6, 7, 2)).astype(np.uint16)
    path = write(tmp_path / "a.png", labels, 2, [4] * 6)
    np.testing.assert_array_equal(readers.read_mask(path), labels[..., 0])


@pytest.mark.parametrize("interlaced", [False, True])
def test_truncated_files_are_refused(tmp_path, interlaced):
    pixels = RNG.integers(0, 2**16, (6, 7, 3)).astype(np.uint16)
    path = write(tmp_path / "short.png", pixels, 3, [0] * 6, interlaced, width=8)
    with pytest.raises(InputError, match=r"short\.png.*export"):
        readers.read_image(path)
